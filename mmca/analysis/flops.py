"""Multiply-adds of modules and models, including those that torch's counter misses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmca.analysis.maps import watch
from mmca.errors import InputError
from mmca.layers import Attention, Block
from mmca.ops import use_backend
from mmca.ops.compat import math_attention

SHAPES = {'mmdet': (800, 1280), 'mmseg': (512, 2048), 'mmpretrain': (224, 224)}
HEADS = {'mmdet': ('rpn_head', 'bbox_head'), 'mmseg': ('decode_head',), 'mmpretrain': ('head',)}
MASKS = 100  # per image


@dataclass(frozen=True)
class FlopReport:
    """Parameters and multiply-adds of a module.

    Attributes:
        macs: multiply-adds of convolutions, matrix products and transforms.
        dft: the part that torch's counter cannot see, `extra_macs` of attentions.
        exported_dft: the same in an ONNX file, where matrix products replace transforms.
    """

    params: int
    macs: int
    dft: int
    exported_dft: int = 0


def count_flops(module: nn.Module, *args: object, **kwargs: object) -> FlopReport:
    """Run a module once and count its multiply-adds.

    As in the published tables, convolutions, matrix products, softmax attention (both products)
    and transforms count; element-wise work, norms and activations do not. Circulant attention
    counts by its definition: q, k and v projected from the tokens and transformed. The module
    runs in its current mode.

    Example:
        >>> from mmca.layers import CirculantAttention
        >>> count_flops(CirculantAttention(64), torch.zeros(1, 196, 64), (14, 14))
        FlopReport(params=20608, macs=4637370, dft=623290, exported_dft=3662848)
    """
    extra = exported = 0

    def note(path: str, attn: nn.Module, args: tuple, *_: object) -> None:
        nonlocal extra, exported
        x, hw_shape = args
        extra += len(x) * attn.extra_macs(hw_shape)
        exported += len(x) * attn.exported_macs(hw_shape)

    # The eager form projects tokens, as the definition does. The counter does not know the CPU's
    # fused softmax attention; written out, it is two products.
    with (
        torch.no_grad(),
        use_backend('eager'),
        math_attention(),
        watch(module, Attention, note),
        FlopCounterMode(display=False) as counter,
    ):
        module(*args, **kwargs)
    macs = counter.get_total_flops() // 2 + extra
    return FlopReport(_parameters(module), macs, extra, exported)


@torch.no_grad()
def block_macs(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Multiply-adds of every block of a backbone by its path, for images (B, 3, H, W)."""
    calls: dict[str, tuple[nn.Module, tuple]] = {}
    with watch(model, Block, lambda path, block, args, *_: calls.update({path: (block, args)})):
        model(images)
    return {path: count_flops(block, *args).macs for path, (block, args) in calls.items()}


@torch.no_grad()
def count_parts(model: nn.Module, library: str, shape: tuple[int, int]) -> dict[str, FlopReport]:
    """Count the multiply-adds of a model's parts for one image in inference.

    For RoI heads, it assumes the number of boxes in the test settings and 100 masks, as mmdet does.

    Args:
        model: as built from a config; afterward most of it is on the meta device.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        shape: (H, W) of the image.

    Returns:
        Name of the part -> its report, in the order of the forward pass.

    Raises:
        InputError: the model has none of the heads that can be counted.
    """
    model.eval()
    parts = {}
    x: Tensor | tuple = torch.empty(1, 3, *shape, device='meta')  # only shapes matter
    for name in ('backbone', 'neck', *HEADS[library]):
        if (part := getattr(model, name, None)) is not None:
            parts[name] = count_flops(part.to('meta'), x)
            x = part(x) if name in ('backbone', 'neck') else x
    if not parts.keys() & set(HEADS[library]):
        raise InputError(f'{type(model).__name__} has none of {", ".join(HEADS[library])} to count')
    if hasattr(model, 'roi_head'):
        parts['roi_head'] = _count_roi_head(model, x, shape)
    if rest := _parameters(model) - sum(report.params for report in parts.values()):
        parts['training only'] = FlopReport(rest, 0, 0)
    return parts


def _count_roi_head(model: nn.Module, x: tuple, shape: tuple[int, int]) -> FlopReport:
    from mmdet.models import CascadeRoIHead
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    boxes = model.test_cfg['rpn']['max_per_img']
    if type(model.roi_head) is CascadeRoIHead:
        return _count_cascade(model.roi_head, boxes)
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape'), shape)
    sample = DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
    proposals = InstanceData(bboxes=torch.tensor([0.0, 0.0, *shape[::-1]]).repeat(boxes, 1))
    # RoIAlign does not run on the meta device.
    levels = tuple(torch.zeros(level.shape) for level in x)
    return count_flops(model.roi_head, levels, [proposals], [sample])


def _count_cascade(roi_head: nn.Module, boxes: int) -> FlopReport:
    """Count head by head: a cascade's own forward pass computes the masks of all boxes."""
    macs = 0
    for kind, number in (('bbox', boxes), ('mask', MASKS)):
        extractors = getattr(roi_head, f'{kind}_roi_extractor', ())
        for extractor, head in zip(extractors, getattr(roi_head, f'{kind}_head', ())):
            size = extractor.roi_layers[0].output_size
            rois = torch.empty(number, extractor.out_channels, *size, device='meta')
            macs += count_flops(head.to('meta'), rois).macs
    return FlopReport(_parameters(roi_head), macs, 0)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
