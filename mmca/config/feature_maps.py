"""Trace a backbone's feature maps through a model, with shapes instead of values."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmca.config.models import build_on_meta
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import ConfigDict

SIDE = 256  # of the square image in pixels; all strides divide it
SHAPES = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')  # of a data sample


@dataclass(frozen=True)
class FeatureMap:
    """One output of a backbone or neck: channels, and stride in pixels."""

    channels: int
    stride: int

    def __str__(self) -> str:
        return f'{self.channels} at stride {self.stride}'


class GivenMaps(BaseModule):
    """Replaces a backbone: returns maps of given channels and strides for any input."""

    def __init__(self, maps: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C_i, H / stride_i, W / stride_i) for each map."""
        size = [(c, x.shape[2] // stride, x.shape[3] // stride) for c, stride in self.maps]
        return tuple(x.new_zeros(len(x), *shape) for shape in size)


@dataclass
class Trace:
    """How a model uses a backbone's maps.

    Attributes:
        reached: names of modules that finished their forward pass.
        neck: maps of the neck; empty without one.
        error: the exception that ended the pass, if any.
    """

    reached: set[str] = field(default_factory=set)
    neck: list[FeatureMap] = field(default_factory=list)
    error: Exception | None = None


def feature_maps(backbone: ConfigDict) -> list[FeatureMap]:
    """A backbone's output maps, in order.

    Raises:
        InputError: it has other outputs.
        Exception: any exception of the backbone.
    """
    side = backbone.get('img_size', SIDE)  # BEiT takes no other size
    side = side if isinstance(side, int) else max(side)
    image = torch.zeros(1, backbone.get('in_channels', 3), side, side, device='meta')
    try:
        found = _maps(_run(build_on_meta(backbone), image), side)
    except Exception:  # some operators, such as mmcv's, need values
        found = _maps(_run(MODELS.build(copy.deepcopy(backbone)), image), side)
    if not found:
        raise InputError(f'the backbone {backbone["type"]} has no feature maps')
    return found


def trace(model: ConfigDict, maps: Sequence[FeatureMap]) -> Trace:
    """Run maps of a backbone, as shapes without values, through the rest of a model.

    The pass ends where a part needs values, such as non-maximum suppression.

    Args:
        model: config of a detector, segmentor or classifier; its backbone is not built.
        maps: outputs of the backbone.

    Raises:
        Exception: any exception while the model is built.
    """
    model = copy.deepcopy(model)
    model.backbone = {'type': GivenMaps, 'maps': [(one.channels, one.stride) for one in maps]}
    if model.get('pretrained'):  # mmseg gives it to the backbone
        model.pretrained = None
    built = build_on_meta(model)
    result, features = Trace(), []

    def done(name: str, output: Any) -> None:
        if name == 'neck':
            result.neck = _maps(output, SIDE)
        if name in ('backbone', 'neck'):
            features[:] = output
        result.reached.add(name)

    for name, module in built.named_modules():
        module.register_forward_hook(lambda _, args, output, name=name: done(name, output))
    auxiliary = getattr(built, 'auxiliary_head', None) or []  # runs only in training
    heads = auxiliary if isinstance(auxiliary, nn.ModuleList) else [auxiliary]
    shapes = dict.fromkeys(SHAPES, (SIDE, SIDE))
    sample = BaseDataElement(metainfo={**shapes, 'scale_factor': (1.0, 1.0)})
    image = torch.zeros(1, 3, SIDE, SIDE, device='meta')
    for part in (built, *(head for head in heads if isinstance(head, nn.Module))):
        try:
            if part is built:
                _run(part, image, [sample], mode='predict')
            else:
                _run(part, features)
        except Exception as error:  # every library and head raises its own
            result.error = result.error or error
    return result


def _run(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    """The output of a module in evaluation mode; images move to its device."""
    module.eval()
    parameter = next(module.parameters(), torch.empty(0, device='meta'))
    inputs = [
        torch.zeros_like(one, device=parameter.device) if isinstance(one, Tensor) else one
        for one in inputs
    ]
    with torch.device(parameter.device), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # they are for training
        return module(*inputs, **options)


def _maps(outs: Any, side: int) -> list[FeatureMap]:
    """Channels and strides of maps for the square image; empty if they are something else."""
    outs = [outs] if isinstance(outs, Tensor) else outs
    good = isinstance(outs, (list, tuple)) and all(
        isinstance(out, Tensor) and out.dim() == 4 and out.shape[2] for out in outs
    )
    return [FeatureMap(out.shape[1], side // out.shape[2]) for out in outs] if good else []
