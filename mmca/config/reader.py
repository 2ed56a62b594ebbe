"""Read configs as mmengine does, safely, with errors in one line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmca.config.packages import require
from mmca.config.shipped import LIBRARIES, find_config
from mmca.errors import InputError, warn

if TYPE_CHECKING:
    from mmengine.config import Config

SHOWN = 4  # keys in a message
# Top-level settings of the libraries; all other names there are the config's own variables.
KEYS = (
    *('model', 'data_preprocessor', 'model_wrapper_cfg', 'tta_model', 'tta_pipeline'),
    *('train_dataloader', 'val_dataloader', 'test_dataloader'),
    *('train_cfg', 'val_cfg', 'test_cfg', 'val_evaluator', 'test_evaluator'),
    *('optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'default_hooks', 'custom_hooks'),
    *('work_dir', 'experiment_name', 'load_from', 'resume', 'launcher', 'log_level'),
    *('log_processor', 'visualizer', 'default_scope', 'custom_imports', 'env_cfg', 'randomness'),
    *('sync_bn', 'find_unused_parameters', 'compile', 'runner_type'),
)

# Settings of the libraries before mmengine, which have no effect any more -> those of today.
OUTDATED = {
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper',
    'fp16': 'optim_wrapper.type',
    'lr_config': 'param_scheduler',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'evaluation': 'val_evaluator, train_cfg.val_interval and default_hooks.checkpoint',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger and visualizer',
    'resume_from': 'load_from and resume',
}


def parse_options(pairs: Sequence[str]) -> dict:
    """Parse KEY=VALUE pairs as `--cfg-options` of the libraries' tools does.

    Numbers, booleans, None, lists and tuples are converted; a pair without '=' or with unbalanced
    brackets raises an `InputError`.
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


def quiet_reading() -> None:
    """Keep mmengine's notes, such as each use of a $VARIABLE in a config, off stdout.

    Call it before reading: mmengine makes its logger only once in a process.
    """
    from mmengine.logging import MMLogger

    MMLogger.get_instance('mmengine', log_level='WARNING')


def load_config(name: str, pairs: Sequence[str] = ()) -> Config:
    """Read a config for its library, merge options and import the modules in `custom_imports`.

    Args:
        name: a .py, .yaml, .yml or .json file, or the name of a shipped config.
        pairs: KEY=VALUE strings to merge.

    Raises:
        InputError: the file is missing or broken, an option does not fit, the library is unknown or
            not installed, or an import fails.
    """
    from mmengine.utils import import_modules_from_strings

    cfg = read_config(name, pairs)
    library_of(cfg, name)
    for key in sorted(OUTDATED.keys() & cfg.keys()):
        variable = isinstance(cfg[key], str) and key != 'resume_from'
        if not variable and not _places(cfg, cfg[key]):
            warn(f'config {name}: {key} has no effect in mmengine, which reads {OUTDATED[key]}')
    try:
        import_modules_from_strings(**(cfg.get('custom_imports') or {'imports': []}))
    except Exception as error:  # a module of the user's may raise anything
        reason = error.__context__ or error  # more precise than mmengine's message
        raise InputError(
            f'config {name}, custom_imports: {type(reason).__name__}: {reason}; '
            'install the module or add its folder to PYTHONPATH'
        ) from error
    return cfg


def read_config(name: str, pairs: Sequence[str] = (), environment: bool = True) -> Config:
    """Read a config and merge options as :func:`load_config` does, but import nothing.

    Without `environment`, {{$NAME:default}} stays in place of the environment's value.
    """
    from mmengine.config import Config

    from mmca.engine import safe_loading

    path = find_config(name)
    options = parse_options(pairs)
    safe_loading.install()
    try:  # it runs only the user's config, which therefore needs the fix
        cfg = Config.fromfile(
            path, import_custom_modules=False, use_environment_variables=environment
        )
    except Exception as error:
        kind = '' if isinstance(error, InputError) else f'{type(error).__name__}: '
        raise InputError(
            f'config {name}, or a file in its _base_: {kind}{" ".join(str(error).split())}'
        ) from error
    for key in options:
        first = key.partition('.')[0]
        if first not in cfg and first not in KEYS:
            near = get_close_matches(first, [*KEYS, *cfg], 1)
            hint = f', did you mean {near[0]}?' if near else ''
            raise InputError(f'--cfg-options {key}: {name} has no {first!r}{hint}')
        if first not in KEYS:
            places = ', '.join(_places(cfg, cfg[first])[:SHOWN])
            warn(
                f'--cfg-options {key} changes a variable, and no setting that was computed from it'
                + (f'; the same value is in {places}' if places else '')
            )
    try:
        cfg.merge_from_dict(options)
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise InputError(f'cannot apply --cfg-options to {name}: {reason}') from error
    return cfg


def _places(cfg: Config, value: Any) -> list[str]:
    """The settings with this value, or a dict with its items, as keys of --cfg-options."""

    def has_it(node: Any) -> bool:
        if isinstance(node, dict) and isinstance(value, dict):
            return all(node.get(k, ...) == v for k, v in value.items() if k != '_delete_')
        return node == value and type(node) is type(value)

    def search(node: Any, key: str) -> Iterator[str]:
        if has_it(node):
            yield key
        elif isinstance(node, (dict, list, tuple)):
            pairs = node.items() if isinstance(node, dict) else enumerate(node)
            for name, child in pairs:
                yield from search(child, f'{key}.{name}')

    return [place for key in KEYS if key in cfg for place in search(cfg[key], key)]


def library_of(cfg: Config, name: str) -> str:
    """The library of a config, 'mmdet', 'mmseg' or 'mmpretrain'; `name` is for messages.

    Raises:
        InputError: another `default_scope` or none, or the library is not installed.
    """
    scope = cfg.get('default_scope')
    if scope not in LIBRARIES:
        raise InputError(
            f'config {name}: default_scope is {scope!r}; choose from {", ".join(LIBRARIES)}'
        )
    require(scope)
    if scope == 'mmpretrain':
        import_module('mmca.engine.no_torchvision')  # as its shipped configs do
    return scope


def at(cfg: Any, key: str) -> Any:
    """The value at a dotted key of a config, or None.

    Example:
        >>> at({'model': {'backbone': {'depth': 50}}}, 'model.backbone.depth')
        50
    """
    for name in key.split('.'):
        cfg = cfg.get(name) if hasattr(cfg, 'get') else None
    return cfg
