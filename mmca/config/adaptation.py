"""Replace the backbone in any config of mmdet, mmseg or mmpretrain."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmca.config.reader import library_of, read_config
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmca.config.feature_maps import FeatureMap, Trace

CONSTRUCTOR = 'DefaultOptimWrapperConstructor'  # mmengine's default
PLACES = ('model', 'model.detector')  # where a backbone is; trackers contain a detector
STRIDES = (4, 8, 16, 32)  # of a pyramid's stages
PYRAMID_CHANNELS = 256  # of the levels made from DeiT's one map
MAX_GROUPS = 6  # of channel numbers; some equal the backbone's by chance
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

    library = library_of(cfg, cfg.filename or 'given')
    place = next((place for place in PLACES if _at(cfg, f'{place}.backbone.type')), None)
    if place is None:
        raise InputError(f'{cfg.filename}: the model has no backbone to replace')
    result = Adaptation()
    with DefaultScope.overwrite_default_scope(library):
        _change_model(cfg, place, backbone, weights, result)
    _change_images(cfg, place, result)
    _drop_checkpoints(cfg, place, result)
    if not keep_recipe:
        _change_recipe(cfg, library, result)
    imports = [*(cfg.get('custom_imports') or {}).get('imports', ()), 'mmca.engine']
    result.changes['custom_imports'] = {'imports': list(dict.fromkeys(imports))}
    result.changes['runner_type'] = 'mmca.Runner'
    return result


def _change_model(
    cfg: Config, place: str, name: str, weights: str | Path | None, result: Adaptation
) -> None:
    """Change the backbone, and the channels of the parts that take its maps."""
    from mmca.backbones.catalog import IMAGENET, find_backbone, imagenet_weights, start_settings
    from mmca.checkpoint import read_checkpoint
    from mmca.config.feature_maps import FeatureMap, feature_maps, trace
    from mmca.config.models import build_on_meta

    cfg, changes = copy.deepcopy(cfg), result.changes
    part = _at(cfg, place)
    kind = part.backbone.type
    try:
        old = feature_maps(part.backbone)
        before = trace(part, old)
        if len({one.stride for one in old}) == 1 and len({one.stride for one in before.neck}) > 1:
            # A plain ViT's neck makes a pyramid; ours are pyramids.
            old, part.neck, changes[f'{place}.neck'] = before.neck, None, None
            before = trace(part, old)
    except InputError:
        raise
    except Exception as error:  # the model's own, or a package that it needs
        try:
            build_on_meta(part)
        except Exception as own:
            raise InputError(f'cannot build the original model: {_line(own)}') from own
        needs = f'{part.type} needs more from {kind} than feature maps'
        raise InputError(f'{needs}: {_line(error)}') from error
    if 'shared_head' in (part.get('roi_head') or {}):
        raise InputError(f'{part.type}: its RoI head uses a stage of {kind}')
    cls, arch = find_backbone(name)
    settings: dict[str, Any] = {'type': f'mmca.{cls.__name__}', 'arch': arch}
    if part.backbone.get('in_channels', 3) != 3:
        settings['in_channels'] = part.backbone.in_channels
    # Anchors and points of detectors lie at the strides of the maps.
    stages = _stages(old, kind, exact=cfg.default_scope == 'mmdet')
    if cls.pyramid:
        settings['out_indices'] = tuple(stages)
    new = feature_maps(settings)
    neck, fpn = part.get('neck'), None
    if not cls.pyramid and 'head' not in part:  # classifiers take one map at any stride
        fpn = {'type': 'mmca.SimpleFeaturePyramid', 'in_channels': new[0].channels}
        new = [FeatureMap(PYRAMID_CHANNELS, STRIDES[stage]) for stage in stages]
        levels = {'out_channels': PYRAMID_CHANNELS, 'num_outs': len(new), 'start_level': stages[0]}
    if fpn and isinstance(neck, Mapping) and neck['type'] == 'FPN':  # ours takes its place
        first, number = before.neck[0], len(before.neck)
        levels = {'out_channels': first.channels, 'num_outs': number}
        levels['start_level'] = STRIDES.index(first.stride)
        changes[f'{place}.neck'] = {'_delete_': True, **fpn, **levels}
    else:
        edits = _channel_edits(cfg, place, before, old, new)
        cfg.merge_from_dict(edits)
        if fpn:
            neck = _at(cfg, f'{place}.neck')
            necks = [neck] if isinstance(neck, Mapping) else neck or []
            edits = {key: value for key, value in edits.items() if f'{place}.neck' not in key}
            changes[f'{place}.neck'] = [{**fpn, **levels}, *necks]
        keys = (re.split(r'\.\d', key)[0] for key in edits)  # configs replace lists as a whole
        changes |= {key: _at(cfg, key) for key in keys}
    if weights is not None:
        weights = imagenet_weights(name) if weights == IMAGENET else weights
        settings = start_settings(settings, read_checkpoint(weights))
        settings['init_cfg'] = {'type': 'Pretrained', 'checkpoint': str(weights)}
    changes[f'{place}.backbone'] = {'_delete_': True, **settings}
    through = ', through mmca.SimpleFeaturePyramid' if fpn else ''
    result.reasons['backbone'] = f'{kind} -> {settings["type"]}, {settings["arch"]}{through}'
    result.reasons['feature maps'] = f'{_list(old)} -> {_list(new)}'


def _stages(old: list[FeatureMap], kind: str, exact: bool) -> list[int]:
    """The stage of a pyramid for each map of the old backbone: by stride; by depth unless exact."""
    strides = [one.stride for one in old]
    if len(old) > len(STRIDES):
        raise InputError(f'{kind} has {len(old)} maps; mmca backbones have at most {len(STRIDES)}')
    if len(old) > 1 and len(set(strides)) == 1:
        raise InputError(f'{kind} has {len(old)} maps of one stride; mmca backbones are pyramids')
    if len(set(strides)) == len(strides) and set(strides) <= set(STRIDES):
        return [STRIDES.index(stride) for stride in strides]
    if exact:
        raise InputError(f'{kind} has maps at strides {strides}; mmca backbones at {list(STRIDES)}')
    return list(range(len(STRIDES) - len(old), len(STRIDES)))  # dilated ones repeat strides


def _channel_edits(
    cfg: Config, place: str, before: Trace, old: list[FeatureMap], new: list[FeatureMap]
) -> dict[str, Any]:
    """The channel numbers to change so that the new maps get as far as the old ones.

    A number in the config may equal one of the backbone's by chance, so this tries subsets.
    """
    from mmca.config.feature_maps import trace

    part = _at(cfg, place)
    rounds = [[key for key in part if key != 'backbone']]
    if part.get('neck'):  # few necks pass a map on to the heads
        rounds.insert(0, ['neck'])
    first: Exception | None = None
    for takers in rounds:
        groups: dict[tuple, dict[str, Any]] = {}
        for taker in takers:
            for key, value, index in _channel_keys(part[taker], f'{place}.{taker}'):
                edited = _edited(value, index, old, new)
                if edited is not None:
                    group = re.sub(r'\.\d+', '', key), str(value)
                    groups.setdefault(group, {})[key] = edited
        tried = list(groups.values())[:MAX_GROUPS]
        sizes = range(len(tried), -1, -1)
        for subset in chain.from_iterable(combinations(tried, size) for size in sizes):
            edits = {key: value for group in subset for key, value in group.items()}
            trial = copy.deepcopy(cfg)
            trial.merge_from_dict(edits)
            try:
                after = trace(_at(trial, place), new)
            except Exception as error:  # the model's own: these numbers do not go together
                first = first or error
                continue
            if after.reached >= before.reached:
                return edits
            first = first or after.error
    raise InputError(
        f'{part.type} cannot use maps with {_list(new)} instead of {_list(old)}: {_line(first)}'
    )


def _channel_keys(node: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Keys and values of all input channels below a node, and mmseg's `in_index`."""
    items = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, (list, tuple)):
        items = ((str(index), item) for index, item in enumerate(node))
    for name, value in items:
        if 'in_channel' in name:
            yield f'{key}.{name}', value, node.get('in_index')
        yield from _channel_keys(value, f'{key}.{name}')


def _edited(value: Any, index: Any, old: list[FeatureMap], new: list[FeatureMap]) -> Any:
    """Channels of the old maps replaced by the new ones; None for other numbers."""
    given, wanted = [one.channels for one in old], [one.channels for one in new]
    table = dict(zip(given, wanted))
    if isinstance(value, int):
        if isinstance(index, int) and index < len(old) and given[index] == value:
            return wanted[index]
        return table.get(value)
    if not isinstance(value, (list, tuple)) or not value or not set(value) <= set(given):
        return None
    edited = wanted if list(value) == given else [table[number] for number in value]
    return type(value)(edited)


def _change_images(cfg: Config, place: str, result: Adaptation) -> None:
    """Normalize images as the backbone's weights expect it."""
    if _at(cfg, f'{place}.backbone').get('in_channels', 3) != 3:  # not RGB
        return
    for key in ('data_preprocessor', 'model.data_preprocessor', f'{place}.data_preprocessor'):
        node = _at(cfg, key)
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
        if value := _at(cfg, key):
            result.changes[key] = None
            result.reasons[key] = f'not loaded: {value if isinstance(value, str) else dict(value)}'


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


def _at(cfg: Any, key: str) -> Any:
    """The value at a dotted key, or None."""
    for name in key.split('.'):
        cfg = cfg.get(name) if isinstance(cfg, Mapping) or hasattr(cfg, 'get') else None
    return cfg


def _list(maps: list[FeatureMap]) -> str:
    return ', '.join(map(str, maps))


def _line(error: Exception | None) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
