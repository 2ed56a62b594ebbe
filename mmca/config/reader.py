"""Reading a config as mmengine does, with one clear line for whatever is wrong with it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.engine import no_torchvision
from mmca.config.names import RUN_KEYS, did_you_mean
from mmca.config.packages import require
from mmca.config.shipped import PREFIX, find_config
from mmca.engine.safe_loading import load_files_as_data
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')
MISFITS = (AttributeError, IndexError, KeyError, TypeError, ValueError)
CONFIG_SUFFIXES = ('.py', '.yaml', '.yml', '.json')


def parse_options(pairs: Sequence[str]) -> dict:
    """Read KEY=VALUE pairs as the `--cfg-options` of the libraries' own tools do.

    Args:
        pairs: for example ['train_dataloader.batch_size=4'].

    Returns:
        Keys and values, with numbers, booleans, None, lists and tuples converted.

    Raises:
        InputError: a pair without '=', or with unbalanced brackets.
    """
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument('pairs', nargs='*', action=DictAction)
    try:
        return parser.parse_args(['--', *pairs]).pairs or {}
    except (ValueError, AssertionError) as error:
        raise InputError(
            f'--cfg-options {" ".join(pairs)}: write KEY=VALUE, with balanced brackets'
        ) from error


def load_config(name: str, pairs: Sequence[str] = ()) -> Config:
    """Read a config, merge the options and import what it names in `custom_imports`.

    Args:
        name: a .py, .yaml, .yml or .json file, or the name of a shipped config.
        pairs: KEY=VALUE strings to merge.

    Returns:
        The config.

    Raises:
        InputError: the file is missing or broken, an option does not fit, or an import is absent.
    """
    from mmengine.utils import import_modules_from_strings

    cfg = read_config(name, pairs)
    imports = cfg.get('custom_imports') or {}
    names = imports.get('imports', [])
    for module in [names] if isinstance(names, str) else names:
        if find_spec(module.split('.')[0]) is None:
            raise InputError(
                f'config {name} imports {module!r}, which is not installed: '
                'install it or add its folder to PYTHONPATH'
            )
    if imports:
        try:
            import_modules_from_strings(**imports)
        except (ImportError, TypeError) as error:
            reason = error.__context__ or error  # mmengine's own says less
            raise InputError(f'config {name}, custom_imports: {reason}') from error
    return cfg


def read_config(name: str, pairs: Sequence[str] = (), environment: bool = True) -> Config:
    """Read a config and merge the options; import nothing.

    Args:
        name: as for :func:`load_config`.
        pairs: as for :func:`load_config`.
        environment: replace {{$NAME:default}} by the environment's value or the default.

    Returns:
        The config.

    Raises:
        InputError: the file is missing or broken, or an option does not fit.
    """
    from mmengine.config import Config

    path = find_config(name)
    if Path(path).suffix not in CONFIG_SUFFIXES:
        raise InputError(f'not a config: {path}; its name must end in {", ".join(CONFIG_SUFFIXES)}')
    options = parse_options(pairs)
    _find_shipped_bases()
    load_files_as_data()
    # Reading runs the user's config and nothing else, so whatever it raises is to be fixed there;
    # mmengine reads from a temporary copy, whose name would only confuse.
    try:
        cfg = Config.fromfile(
            path, import_custom_modules=False, use_environment_variables=environment
        )
    except Exception as error:
        reason = re.sub(r'There are syntax errors in config file \S+ ', '', str(error))
        kind = '' if isinstance(error, InputError) else f'{type(error).__name__}: '
        raise InputError(
            f'config {name}, or a file in its _base_: {kind}{" ".join(reason.split())}'
        ) from error
    _merge(cfg, options, name)
    return cfg


def _merge(cfg: Config, options: dict, name: str) -> None:
    for key in options:
        first = key.partition('.')[0]
        if first not in cfg and first not in RUN_KEYS:
            hint = did_you_mean(first, [*RUN_KEYS, *cfg])
            raise InputError(f'--cfg-options {key}: {name} has no {first!r}{hint}')
    try:
        cfg.merge_from_dict(options)
    except MISFITS as error:
        wrong = next((key for key in options if not _fits(cfg, {key: options[key]})), '')
        text = ' '.join(str(error).split())
        raise InputError(f'--cfg-options do not fit {name}, {wrong}: {text}') from error


def _fits(cfg: Config, options: dict) -> bool:
    try:
        cfg.merge_from_dict(options)
    except MISFITS:
        return False
    return True


def library_of(cfg: Config, name: str) -> str:
    """Name the library that a config belongs to, and see to it that it can be imported.

    Args:
        cfg: the config.
        name: its file or name, for the message.

    Returns:
        'mmdet', 'mmseg' or 'mmpretrain'.

    Raises:
        InputError: another `default_scope` or none, or the library is not installed.
    """
    scope = cfg.get('default_scope')
    if scope not in LIBRARIES:
        raise InputError(
            f'config {name} belongs to no known library: default_scope is {scope!r}, '
            f'known are {", ".join(LIBRARIES)}'
        )
    require(scope)
    if scope == 'mmpretrain':
        no_torchvision.stand_in()
    return scope


def _find_shipped_bases() -> None:
    """Let `_base_ = 'mmca::coco/maskrcnn_ca_pvt_t.py'` name a shipped config.

    mmengine knows 'PACKAGE::' for a fixed list of packages, finds them in installed packages only,
    and marks all that it reads there with that scope: it would look for mmdet's MaskRCNN in mmca.
    """
    from mmengine.config import Config

    mmengines_own = Config._get_cfg_path
    if getattr(mmengines_own, 'finds_mmca', False):
        return

    def get_cfg_path(path: str, filename: str) -> tuple[str, str | None]:
        if path.startswith(PREFIX):
            return find_config(path), None
        return mmengines_own(path, filename)

    get_cfg_path.finds_mmca = True
    Config._get_cfg_path = staticmethod(get_cfg_path)
