"""Change a model's backbone, and the parts that take its maps."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmca.backbones.base import Backbone
from mmca.backbones.catalog import IMAGENET, find_backbone, imagenet_weights, start_settings
from mmca.checkpoint import read_checkpoint
from mmca.config.feature_maps import FeatureMap, Trace, feature_maps, trace
from mmca.config.models import build_on_meta
from mmca.config.reader import at
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmca.config.adaptation import Adaptation

STRIDES = (4, 8, 16, 32)  # of a pyramid's stages
PYRAMID_CHANNELS = 256  # of the levels made from DeiT's one map
MAX_GROUPS = 6  # of channel numbers; some equal the backbone's by chance
# mmpretrain's neck and heads for the mean of a map.
POOLING = 'GlobalAveragePooling'
LINEAR_HEADS = ('LinearClsHead', 'MultiLabelLinearClsHead')


def change_model(
    cfg: Config, place: str, name: str, weights: str | Path | None, result: Adaptation
) -> None:
    """Add to `result` what puts a backbone into the model at `place`; see `plan`.

    Raises:
        InputError: the config's model cannot be built, or cannot take this backbone.
    """
    part = at(cfg, place)
    cls, arch = find_backbone(name)
    settings: dict[str, Any] = {'type': f'mmca.{cls.__name__}', 'arch': arch}
    if part.backbone.get('in_channels', 3) != 3:
        settings['in_channels'] = part.backbone.in_channels
    if cfg.default_scope == 'mmpretrain' and 'num_classes' in (part.get('head') or {}):
        _change_classifier(part, place, cls, settings, result)
    else:
        _change_takers(copy.deepcopy(cfg), place, cls, settings, result)
    if weights is not None:
        weights = imagenet_weights(name) if weights == IMAGENET else weights
        settings = start_settings(settings, read_checkpoint(weights))
        settings['init_cfg'] = {'type': 'Pretrained', 'checkpoint': str(weights)}
    result.changes[f'{place}.backbone'] = {'_delete_': True, **settings}
    change = f'{part.backbone.type} -> {settings["type"]}, {settings["arch"]}'
    result.reasons = {'backbone': change, **result.reasons}


def _change_classifier(
    part: Mapping, place: str, cls: type[Backbone], settings: dict[str, Any], result: Adaptation
) -> None:
    """Classify the mean of the last map; a head of tokens or of several layers becomes linear."""
    if cls.pyramid:
        settings['out_indices'] = (len(STRIDES) - 1,)
    (last,) = feature_maps(settings)
    head, neck = part.head, part.get('neck')
    pools = isinstance(neck, Mapping) and neck['type'] == POOLING
    if pools and head['type'] in LINEAR_HEADS:
        result.changes[f'{place}.head.in_channels'] = last.channels
    else:
        kept = {key: head[key] for key in ('num_classes', 'loss', 'topk') if key in head}
        linear = {'type': LINEAR_HEADS[0], 'in_channels': last.channels, **kept}
        for key, value in (('neck', {'type': POOLING}), ('head', linear)):
            value = {'_delete_': True, **value} if key in part else value
            result.changes[f'{place}.{key}'] = value
        result.reasons['head'] = f'{head["type"]} -> {LINEAR_HEADS[0]} on the mean of the map'
    result.reasons['feature map'] = str(last)


def _change_takers(
    cfg: Config, place: str, cls: type[Backbone], settings: dict[str, Any], result: Adaptation
) -> None:
    """Choose the maps, and change the channels of the neck and heads that take them."""
    part, changes = at(cfg, place), result.changes
    kind = part.backbone.type
    exact = cfg.default_scope == 'mmdet'  # anchors and points lie at the strides of the maps
    try:
        old = feature_maps(part.backbone)
        before = trace(part, old)
        strides = [{one.stride for one in maps} for maps in (old, before.neck)]
        plain = len(strides[0]) == 1 and len(strides[1]) > 1
        as_before = plain and len(old) == 1 and not cls.pyramid  # one such map for another
        if plain and not as_before:  # the neck of a plain ViT makes a pyramid
            old, part.neck = before.neck, None
            if exact:  # detectors need levels of one width, often more than four
                part.neck = _fpn(before.neck, kind)
                old = [FeatureMap(old[0].channels, stride) for stride in STRIDES]
            changes[f'{place}.neck'] = part.neck
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
    stages = _stages(old, kind, exact)
    if cls.pyramid:
        settings['out_indices'] = tuple(stages)
    new = feature_maps(settings)
    neck, fpn = part.get('neck'), None
    if not cls.pyramid and not as_before:
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
        neck = at(cfg, f'{place}.neck')
        whole = changes.get(f'{place}.neck')
        if fpn:
            whole = [{**fpn, **levels}, *([neck] if isinstance(neck, Mapping) else neck or [])]
        elif whole:
            whole = {'_delete_': True, **neck}
        if whole:
            changes[f'{place}.neck'] = whole
            edits = {key: value for key, value in edits.items() if f'{place}.neck' not in key}
        keys = (re.split(r'\.\d', key)[0] for key in edits)  # configs replace lists as a whole
        changes |= {key: at(cfg, key) for key in keys}
    neck = changes.get(f'{place}.neck')
    neck = neck[0] if isinstance(neck, list) else neck
    through = f', through {neck["type"]}' if neck else ''
    result.reasons['feature maps'] = f'{_list(old)} -> {_list(new)}{through}'


def _fpn(levels: list[FeatureMap], kind: str) -> dict[str, Any]:
    """An FPN with the levels of another neck."""
    channels, (start,) = levels[0].channels, _stages(levels[:1], kind, exact=True)
    width = {'in_channels': [channels] * len(STRIDES), 'out_channels': channels}
    return {'type': 'FPN', **width, 'num_outs': len(levels), 'start_level': start}


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
    part = at(cfg, place)
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
                after = trace(at(trial, place), new)
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


def _list(maps: list[FeatureMap]) -> str:
    return ', '.join(map(str, maps))


def _line(error: Exception | None) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
