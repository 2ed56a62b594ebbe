"""What the checks need of a model: the number of classes of its heads, its tensors' shapes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import ConfigDict
    from torch import nn


def class_counts(model: ConfigDict, library: str) -> dict[str, int]:
    """Find what has the number of classes in a model's config, heads above all.

    Args:
        model: the config of a detector, segmentor or classifier.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.

    Returns:
        Key of num_classes, as --cfg-options writes it -> its value.
    """
    return dict(_class_counts(model, library))


def _class_counts(model: ConfigDict, library: str) -> Iterator[tuple[str, int]]:
    if library == 'mmdet':
        places = [('model.roi_head', model['roi_head'])] if 'roi_head' in model else []
        places.append(('model', model))
        names = ('bbox_head', 'mask_head')
    elif library == 'mmseg':
        places, names = [('model', model)], ('decode_head', 'auxiliary_head')
    else:
        places, names = [('model', model)], ('head', 'data_preprocessor')
    for place, node in places:
        for name in names:
            heads = node.get(name)
            many = isinstance(heads, (list, tuple))
            for index, head in enumerate(heads if many else [heads or {}]):
                if 'num_classes' in head:
                    key = f'{place}.{name}.{index}' if many else f'{place}.{name}'
                    yield f'{key}.num_classes', head['num_classes']


def build_on_meta(model: ConfigDict) -> nn.Module:
    """Build a model of which only names and shapes are wanted.

    Args:
        model: its config; the registry's scope must be the library's.

    Returns:
        The model, on the meta device where it can be built there: no weights are allocated.
    """
    import torch
    from mmengine.registry import MODELS

    try:
        with torch.device('meta'):
            return MODELS.build(copy.deepcopy(model))
    except (RuntimeError, NotImplementedError):  # it reads a tensor's value while it is built
        return MODELS.build(copy.deepcopy(model))


def check_start(model: nn.Module) -> None:
    """Compare the file that the backbone starts from with it; an address is not looked at.

    Args:
        model: on the meta device, where loading leaves no weights.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    from mmca.backbones.base import Backbone

    backbone = getattr(model, 'backbone', None)
    start = getattr(backbone, 'init_cfg', None) or {}
    if isinstance(backbone, Backbone) and '://' not in str(start.get('checkpoint', '://')):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that nothing is loaded
            backbone.init_weights()
