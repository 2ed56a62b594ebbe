"""Facts about the model of a config."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import ConfigDict
    from torch import nn

# Parts whose num_classes is the data set's; RPN and semantic heads count others.
HEADS = ('bbox_head', 'mask_head', 'decode_head', 'auxiliary_head', 'head', 'data_preprocessor')

CHANNELS = ('in_channels', 'out_channels', 'feat_channels', 'conv_out_channels')
PYRAMID = 256  # channels of a feature pyramid by default


def class_counts(model: ConfigDict) -> dict[str, int]:
    """Find the numbers of classes in a model's config.

    Returns:
        Key of num_classes, as in --cfg-options -> its value.

    Example:
        >>> class_counts({'decode_head': {'num_classes': 3}, 'rpn_head': {'num_classes': 1}})
        {'model.decode_head.num_classes': 3}
    """
    return {
        f'{key}.num_classes': node['num_classes']
        for key, node in _nodes(model, 'model')
        if 'num_classes' in node and _name(key) in HEADS
    }


def channel_keys(model: ConfigDict) -> list[str]:
    """Find the channels of a detector's feature pyramid in its config, and all that equal them.

    Returns:
        Keys of the neck and the heads, as in --cfg-options; change all of them to one number.

    Example:
        >>> channel_keys({'neck': {'out_channels': 256}, 'bbox_head': {'in_channels': 256}})
        ['model.neck.out_channels', 'model.bbox_head.in_channels']
    """
    width = model['neck'].get('out_channels', PYRAMID)
    heads = {name: part for name, part in model.items() if name not in ('neck', 'backbone')}
    return ['model.neck.out_channels'] + [
        f'{key}.{name}'
        for key, node in _nodes(heads, 'model')
        for name in CHANNELS
        if node.get(name) == width
    ]


def _nodes(node: Any, key: str) -> Iterator[tuple[str, Mapping]]:
    """Key -> mapping, for all mappings inside."""
    children = enumerate(node) if isinstance(node, (list, tuple)) else ()
    if isinstance(node, Mapping):
        children = node.items()
        yield key, node
    for name, child in children:
        yield from _nodes(child, f'{key}.{name}')


def _name(key: str) -> str:
    return next(part for part in reversed(key.split('.')) if not part.isdigit())


def build_on_meta(model: ConfigDict) -> nn.Module:
    """Build a model for its names and shapes, on the meta device if possible."""
    import torch
    from mmengine.registry import MODELS

    model = copy.deepcopy(model)
    _replace_sync_norms(model)
    try:
        with torch.device('meta'):
            return MODELS.build(copy.deepcopy(model))
    except (RuntimeError, NotImplementedError):  # its constructor reads a tensor's value
        return MODELS.build(model)


def _replace_sync_norms(node: Any) -> None:
    """Replace mmcv's SyncBN, which needs a process group, by BN, which has the same shapes."""
    if isinstance(node, Mapping) and node.get('type') == 'MMSyncBN':
        node['type'] = 'BN'
    children = node.values() if isinstance(node, Mapping) else node
    for child in children if isinstance(node, (Mapping, list, tuple)) else ():
        _replace_sync_norms(child)
