"""Keys that the libraries would ignore or answer with a traceback: misspelled or missing ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmca.config.names import (
    OWN_HOOKS,
    RUN_KEYS,
    did_you_mean,
    did_you_mean_type,
    nearest,
    parameters,
    walk,
)
from mmca.errors import InputError
from mmca.checks.data import ALL_LOADERS, leaf_datasets

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.registry import Registry

TOGETHER = {
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}
# mmengine's own default hooks, which need no type and can be left out by None.
DEFAULT_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)
# How much a name must resemble a known one to be taken for a mistake where others are allowed.
OPEN, TOP = 0.75, 0.9
# What is read from dicts that take any key. Libraries and plugins read more of their own, so that
# only what resembles one of these is taken for a mistake.
ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
PARAMWISE = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'flat_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
    'num_layers',
    'decay_rate',
    'decay_type',
    'layer_decay_rate',
    'force_default_settings',
)
DATASET = {
    'metainfo': ('classes', 'palette'),
    'data_prefix': ('img', 'img_path', 'seg', 'seg_map_path', 'depth_map_path'),
    'filter_cfg': ('filter_empty_gt', 'min_size', 'bbox_min_size'),
}
MODEL = {
    'train_cfg': (
        'rpn',
        'rpn_proposal',
        'rcnn',
        'assigner',
        'sampler',
        'allowed_border',
        'pos_weight',
        'debug',
        'mask_size',
        'nms',
        'nms_pre',
        'nms_post',
        'max_per_img',
        'min_bbox_size',
    ),
    'test_cfg': (
        'rpn',
        'rcnn',
        'mode',
        'crop_size',
        'stride',
        'score_thr',
        'mask_thr',
        'mask_thr_binary',
        'nms',
        'nms_pre',
        'nms_post',
        'max_per_img',
        'max_per_image',
        'min_bbox_size',
    ),
}


def check_keys(cfg: Config, tool: str) -> None:
    """Refuse a config that lacks a part, or has a key that nobody reads but resembles one.

    Args:
        cfg: the config.
        tool: 'train' or 'test'.

    Raises:
        InputError: the first such key, with the one that was probably meant.
    """
    for name in cfg:
        meant = _misspelled(name, RUN_KEYS, TOP)
        if meant and name != f'{meant}s':  # a variable, for instance of a loop
            raise InputError(f'{name}: unknown key, did you mean {meant}?')
    _check_parts(cfg, tool)
    _check_types(cfg)
    for key, node, known, closed in _nodes(cfg):
        for name in node if isinstance(node, Mapping) else ():
            if _misspelled(name, known, OPEN) or (closed and name not in known):
                raise InputError(f'{key}.{name}: unknown key{did_you_mean(str(name), known)}')
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if name in DEFAULT_HOOKS:
            continue
        if hook is None:
            raise InputError(
                f'default_hooks.{name}=None: mmengine leaves out its own hooks alone '
                f'({", ".join(DEFAULT_HOOKS)}); remove the line'
            )
        if isinstance(hook, Mapping) and 'type' not in hook:
            known = (*DEFAULT_HOOKS, 'visualization', *OWN_HOOKS)
            raise InputError(
                f'default_hooks.{name}: it has no type, and mmengine no hook of this name'
                f'{did_you_mean(name, known)}'
            )


def _misspelled(name: Any, known: Sequence[str], similar: float) -> str | None:
    """The known name that is probably meant, or None.

    A known name with more words is another's own: reg_assigner, val_evaluator_2.
    """
    meant = None if name in known else nearest(str(name), known, similar)
    return None if meant and re.search(rf'(^|_){meant}(_|\d|$)', name) else meant


def _check_types(cfg: Config) -> None:
    """Refuse unknown types that the checks do not build, or that mmengine does not name."""
    for key, node, registry in _typed(cfg):
        if isinstance(node, Mapping) and 'type' in node and _kind(node, registry) is None:
            hint = did_you_mean_type(str(node['type']), _scoped(registry))
            raise InputError(f'{key}: unknown type {node["type"]!r}{hint}')


def _typed(cfg: Config) -> Iterator[tuple[str, Any, Registry]]:
    from mmengine.registry import DATA_SAMPLERS, DATASETS, LOOPS, OPTIMIZERS, WEIGHT_INITIALIZERS

    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer')
    yield 'optim_wrapper.optimizer', optimizer, OPTIMIZERS
    for names in TOGETHER.values():
        yield names[1], cfg.get(names[1]), LOOPS
    for name in ALL_LOADERS:
        yield f'{name}.sampler', (cfg.get(name) or {}).get('sampler'), DATA_SAMPLERS
    for key, dataset in leaf_datasets(cfg, ALL_LOADERS):
        yield key, dataset, DATASETS
    for key, node in walk(cfg.model, 'model'):
        if key.endswith('.init_cfg'):
            yield key, node, WEIGHT_INITIALIZERS


def _kind(node: Any, registry: Registry) -> Callable | None:
    """The class of a part of the config, or None."""
    kind = node.get('type') if isinstance(node, Mapping) else None
    return _scoped(registry).get(kind) if isinstance(kind, str) and kind else kind


def _scoped(registry: Registry) -> Registry:
    """The library's own registry of a kind."""
    with registry.switch_scope_and_registry(None) as found:
        return found


def _check_parts(cfg: Config, tool: str) -> None:
    if not isinstance(cfg.get('model'), Mapping):
        raise InputError(f'the config has no model: model={cfg.get("model")!r} must be a dict')
    for name in ALL_LOADERS:
        loader = cfg.get(name)
        if loader and not (isinstance(loader, Mapping) and loader.get('dataset')):
            raise InputError(f'{name} has no dataset: write {name} = dict(dataset=dict(...), ...)')
        for key, least in (('batch_size', 1), ('num_workers', 0)):
            value = (loader or {}).get(key, least)
            if not isinstance(value, int) or value < least:
                raise InputError(f'{name}.{key}={value!r} must be a number, {least} or more')
    for part, names in TOGETHER.items():
        absent = [name for name in names if cfg.get(name) is None]
        needed = part == tool or len(absent) < len(names)
        if absent and needed:
            raise InputError(
                f'the config has no {" and no ".join(absent)}; '
                f'{", ".join(names)} are set or None together'
            )


def _nodes(cfg: Config) -> Iterator[tuple[str, Any, list[str], bool]]:
    """Dicts whose names nobody checks: key, dict, known names, whether others are refused."""
    from mmengine.hooks import CheckpointHook
    from mmengine.registry import LOOPS, METRICS
    from mmengine.runner import Runner
    from torch.nn.utils import clip_grad_norm_, clip_grad_value_
    from torch.utils.data import DataLoader

    yield 'randomness', cfg.get('randomness'), parameters(Runner.set_randomness), True
    yield 'env_cfg', cfg.get('env_cfg'), ENVIRONMENT, False
    for name in ALL_LOADERS:
        loader = cfg.get(name)
        names = [*parameters(DataLoader), 'num_batch_per_epoch', 'disable_subprocess_warning']
        yield name, loader, names, True
    for _, name, _ in TOGETHER.values():
        if kind := _kind(cfg.get(name), LOOPS):
            yield name, cfg[name], ['type', *parameters(kind)], False
    for key, dataset in leaf_datasets(cfg, ALL_LOADERS):
        for name, known in DATASET.items():
            yield f'{key}.{name}', dataset.get(name), known, False
    for name, known in MODEL.items():
        for key, node in walk(cfg.model.get(name), f'model.{name}'):
            if isinstance(node, Mapping) and 'type' not in node:
                yield key, node, known, False
    for key, node in walk(cfg.get('optim_wrapper'), 'optim_wrapper'):
        if key.endswith('.paramwise_cfg'):
            yield key, node, PARAMWISE, False
        elif key.endswith('.clip_grad') and node:
            clip = clip_grad_value_ if node.get('type') == 'value' else clip_grad_norm_
            yield key, node, ['type', *parameters(clip)], True
    for name in ('val_evaluator', 'test_evaluator'):
        if kind := _kind(cfg.get(name), METRICS):
            yield name, cfg[name], ['type', *parameters(kind)], False
    # What this hook does not know it hands to the first saving.
    for key, node in walk(cfg):
        if isinstance(node, Mapping) and node.get('type') in ('CheckpointHook', CheckpointHook):
            yield key, node, ['type', 'priority', *parameters(CheckpointHook)], True
