"""Reading a config as mmengine does, with one clear line for whatever is wrong with it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import no_torchvision

if TYPE_CHECKING:
    from mmengine.config import Config

LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')
INSTALL = {
    'mmca': 'pip install -e .',
    'mmpretrain': 'pip install -r requirements-pretrain.txt',
}
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

    from mmca.errors import InputError

    parser = argparse.ArgumentParser()
    parser.add_argument('pairs', nargs='*', action=DictAction)
    try:
        return parser.parse_args(['--', *pairs]).pairs or {}
    except (ValueError, AssertionError) as error:
        raise InputError(
            f'--cfg-options {" ".join(pairs)}: write KEY=VALUE, with balanced brackets'
        ) from error


def load_config(path: str, pairs: Sequence[str]) -> Config:
    """Read a config, merge the options and import what it names in `custom_imports`.

    Args:
        path: a .py, .yaml, .yml or .json file.
        pairs: KEY=VALUE strings to merge.

    Returns:
        The config.

    Raises:
        InputError: the file is missing or broken, an option does not fit, or an import is absent.
    """
    from mmengine.config import Config
    from mmengine.utils import import_modules_from_strings

    from mmca.errors import InputError

    if not Path(path).is_file():
        raise InputError(f'config not found: {path} (the shipped ones are in configs/)')
    if Path(path).suffix not in CONFIG_SUFFIXES:
        raise InputError(f'not a config: {path}; its name must end in {", ".join(CONFIG_SUFFIXES)}')
    options = parse_options(pairs)
    # Reading runs the user's config and nothing else, so that whatever it raises is to be mended
    # there; mmengine reads from a temporary copy, whose name would only puzzle.
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:
        reason = re.sub(r'There are syntax errors in config file \S+ ', '', str(error))
        raise InputError(
            f'config {path}, or a file in its _base_: {type(error).__name__}: '
            f'{" ".join(reason.split())}'
        ) from error
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise InputError(f'--cfg-options do not fit {path}: {error}') from error
    imports = cfg.get('custom_imports') or {}
    names = imports.get('imports', [])
    for name in [names] if isinstance(names, str) else names:
        if find_spec(name.split('.')[0]) is None:
            raise InputError(
                f'config {path} imports {name!r}, which is not installed: '
                'install it or add its folder to PYTHONPATH'
            )
    if imports:
        import_modules_from_strings(**imports)
    return cfg


def library_of(cfg: Config, path: str) -> str:
    """Name the library that a config belongs to, and see to it that it can be imported.

    Args:
        cfg: the config.
        path: its file, for the message.

    Returns:
        'mmdet', 'mmseg' or 'mmpretrain'.

    Raises:
        InputError: another `default_scope` or none, or the library is not installed.
    """
    from mmca.errors import InputError

    scope = cfg.get('default_scope')
    if scope not in LIBRARIES:
        raise InputError(
            f'config {path} belongs to no known library: default_scope is {scope!r}, '
            f'known are {", ".join(LIBRARIES)}'
        )
    if find_spec(scope) is None:
        raise InputError(install_hint(scope))
    if scope == 'mmpretrain':
        no_torchvision.stand_in()
    return scope


def install_hint(name: str) -> str:
    """Say how to install what is absent.

    Args:
        name: the package.

    Returns:
        One line with the command.
    """
    command = INSTALL.get(name, 'make env')
    what = 'mmcv without its operators (mmcv-lite)' if name == 'mmcv._ext' else name
    problem = 'is not enough' if name == 'mmcv._ext' else 'is not installed'
    return f'{what} {problem}; run in the folder of mmca: {command}'
