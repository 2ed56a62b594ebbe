"""Replace the backbone in any config of mmdet, mmseg or mmpretrain."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmca.config.reader import at, library_of, read_config
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

CONSTRUCTOR = 'DefaultOptimWrapperConstructor'  # mmengine's default
PLACES = ('model', 'model.detector')  # where a backbone is; trackers contain a detector
NORMALIZATION = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}  # ImageNet, RGB
SCHEDULES = {  # library -> shipped schedules with the recipes of PVT and others, images per batch
    'mmdet': ('coco_pvt_1x', 'coco_swin_1x', 16),
    'mmseg': ('ade20k_fpn_40k', 'ade20k_upernet_160k', 16),
    'mmpretrain': ('imagenet_300e', 'imagenet_300e', 1024),
}


@dataclass
class Adaptation:
    """The changes that replace the backbone in a config.

    Attributes:
        changes: key as in --cfg-options -> new value.
        reasons: what changes -> how, and why.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def adapt(
    cfg: Config, backbone: str, weights: str | Path | None = None, keep_recipe: bool = False
) -> Config:
    """Replace the backbone of a config, with the arguments and errors of :func:`plan`.

    Returns:
        A new config.

    Example:
        >>> from mmca.config.reader import read_config
        >>> cfg = adapt(read_config('coco/maskrcnn_ca_pvt_t'), 'ca_swin_t')
        >>> cfg.model.neck.in_channels
        [96, 192, 384, 768]
    """
    adapted = copy.deepcopy(cfg)
    adapted.merge_from_dict(plan(cfg, backbone, weights, keep_recipe).changes)
    return adapted


def plan(
    cfg: Config, backbone: str, weights: str | Path | None = None, keep_recipe: bool = False
) -> Adaptation:
    """Plan the changes that replace the backbone of a config.

    Runs shapes of the old and the new feature maps through neck and heads to find the numbers of
    channels that must change.

    Args:
        cfg: a detector, segmentor or classifier.
        backbone: as in the shipped configs' names, such as 'ca_pvt_t'.
        weights: checkpoint to start the backbone from: a file, a name, or 'imagenet'.
        keep_recipe: whether to keep optimizer, rate and warm-up.

    Raises:
        InputError: the config's model cannot be built, or cannot use this backbone.
    """
    from mmengine.registry import DefaultScope

    from mmca.config.model_adaptation import change_model

    library = library_of(cfg, cfg.filename or 'given')
    place = next((place for place in PLACES if at(cfg, f'{place}.backbone.type')), None)
    if place is None:
        raise InputError(f'{cfg.filename}: the model has no backbone to replace')
    result = Adaptation()
    with DefaultScope.overwrite_default_scope(library):
        change_model(cfg, place, backbone, weights, result)
    _change_images(cfg, place, result)
    _drop_checkpoints(cfg, place, result)
    if not keep_recipe:
        _change_recipe(cfg, library, result)
    imports = [*(cfg.get('custom_imports') or {}).get('imports', ()), 'mmca.engine']
    result.changes['custom_imports'] = {'imports': list(dict.fromkeys(imports))}
    result.changes['runner_type'] = 'mmca.Runner'
    return result


def _change_images(cfg: Config, place: str, result: Adaptation) -> None:
    """Normalize images as the backbone's weights expect it."""
    if at(cfg, f'{place}.backbone').get('in_channels', 3) != 3:  # not RGB
        return
    for key in ('data_preprocessor', 'model.data_preprocessor', f'{place}.data_preprocessor'):
        node = at(cfg, key)
        if not node:
            continue
        if 'data_preprocessor' in node:  # one for each branch, in semi-supervised detectors
            key, node = f'{key}.data_preprocessor', node.data_preprocessor
        order = 'to_rgb' if cfg.default_scope == 'mmpretrain' else 'bgr_to_rgb'
        wanted = {**NORMALIZATION, order: True}
        if node.get('rgb_to_bgr'):
            wanted['rgb_to_bgr'] = False
        changes = {name: value for name, value in wanted.items() if node.get(name) != value}
        if changes:
            result.changes |= {f'{key}.{name}': value for name, value in changes.items()}
            result.reasons['images'] = 'ImageNet mean and standard deviation, RGB'


def _drop_checkpoints(cfg: Config, place: str, result: Adaptation) -> None:
    """Drop checkpoints of the old backbone."""
    parts = dict.fromkeys(('model', place))
    keys = [f'{part}.{name}' for part in parts for name in ('init_cfg', 'pretrained')]
    for key in ('load_from', *keys):
        value = at(cfg, key)
        file = value.get('checkpoint') if isinstance(value, Mapping) else value
        if isinstance(file, str):  # the rest are initializers
            result.changes[key] = None
            result.reasons[key] = f'not loaded: {file}'


def _change_recipe(cfg: Config, library: str, result: Adaptation) -> None:
    """Optimizer, rate and warm-up of the backbone's family; length and decay stay."""
    from mmca import backbones
    from mmca.registry import MODELS

    cls = next(MODELS.get(v['type']) for k, v in result.changes.items() if k.endswith('.backbone'))
    pvt, other, usual_batch = SCHEDULES[library]
    name = pvt if issubclass(cls, backbones.PVT) else other
    family = read_config(f'_base_/schedules/{name}')
    own = cfg.get('optim_wrapper') or {}
    if not isinstance(own.get('optimizer'), Mapping):
        result.reasons['optimizer'] = 'unchanged: the config has several'
        return
    if own.optimizer.type == 'AdamW' and not own.get('constructor'):
        result.reasons['optimizer'] = f'unchanged: AdamW, lr {own.optimizer.lr:g}'
        return
    optimizer = dict(family.optim_wrapper.optimizer)
    batch = (cfg.get('auto_scale_lr') or {}).get('base_batch_size', usual_batch)
    optimizer['lr'] *= batch / usual_batch
    wanted = {'optimizer': optimizer, 'paramwise_cfg': family.optim_wrapper.get('paramwise_cfg')}
    for key, value in wanted.items():
        if value != own.get(key):
            changed = {'_delete_': True, **value} if value else None
            result.changes[f'optim_wrapper.{key}'] = changed
    constructors = [one.get('constructor', CONSTRUCTOR) for one in (family.optim_wrapper, own)]
    if constructors[0] != constructors[1]:
        result.changes['optim_wrapper.constructor'] = constructors[0]
    result.reasons['optimizer'] = f'{name}: AdamW, lr {optimizer["lr"]:g} for batch size {batch}'
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, list) else [schedulers]
    warm_up = [one for one in family.param_scheduler if one['type'] == 'LinearLR']
    kept = [
        {**one, 'eta_min': one['eta_min'] * optimizer['lr'] / own.optimizer.lr}
        if one.get('eta_min')  # a rate, not a share of one
        else one
        for one in schedulers
        if not (warm_up and (one['type'] == 'LinearLR' or 'Warmup' in one['type']))
    ]
    if warm_up + kept != schedulers:
        result.changes['param_scheduler'] = warm_up + kept
    if warm_up:
        unit = 'epochs' if warm_up[0]['by_epoch'] else 'iterations'
        result.reasons['warm-up'] = f'{warm_up[0]["end"]} {unit}'
