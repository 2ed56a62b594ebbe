"""Multiply-adds of a detector, segmentor or classifier, part by part."""

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmca.analysis.flops import FlopReport, count_flops
from mmca.errors import InputError

SHAPES = {'mmdet': (800, 1280), 'mmseg': (512, 2048), 'mmpretrain': (224, 224)}
HEADS = {'mmdet': ('rpn_head', 'bbox_head'), 'mmseg': ('decode_head',), 'mmpretrain': ('head',)}
MASKS = 100  # per image


@torch.no_grad()
def count_parts(model: nn.Module, library: str, shape: tuple[int, int]) -> dict[str, FlopReport]:
    """Count the multiply-adds of a model's parts for one image in inference.

    RoI heads get as many boxes as the test settings keep, and 100 masks, as in mmdet's own count.

    Args:
        model: as built from a config; afterward most of it is on the meta device.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        shape: height and width of the image in pixels.

    Returns:
        Name of the part -> its report, in the order of the forward pass.

    Raises:
        InputError: the model has none of the heads that can be counted.
    """
    model.eval()
    parts = {}
    x: Tensor | tuple = torch.empty(1, 3, *shape, device='meta')  # only shapes matter
    for name in ('backbone', 'neck', *HEADS[library]):
        part = getattr(model, name, None)
        if part is None:
            continue
        parts[name] = count_flops(part.to('meta'), x)
        if name in ('backbone', 'neck'):
            x = part(x)
    if not parts.keys() & set(HEADS[library]):
        raise InputError(f'{type(model).__name__} has none of {", ".join(HEADS[library])} to count')
    if hasattr(model, 'roi_head'):
        parts['roi_head'] = _count_roi_head(model, x, shape)
    counted = sum(report.params for report in parts.values())
    rest = sum(p.numel() for p in model.parameters()) - counted
    if rest:
        parts['training only'] = FlopReport(rest, 0, 0)
    return parts


def _count_roi_head(model: nn.Module, x: tuple, shape: tuple[int, int]) -> FlopReport:
    from mmdet.models import CascadeRoIHead
    from mmdet.structures import DetDataSample

    boxes = model.test_cfg['rpn']['max_per_img']
    if type(model.roi_head) is CascadeRoIHead:
        return _count_cascade(model.roi_head, boxes)
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape'), shape)
    sample = DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
    box = torch.tensor([0.25, 0.25, 0.5, 0.5]) * torch.tensor(shape[::-1]).repeat(2)
    proposals = InstanceData(bboxes=box.repeat(boxes, 1))
    # RoIAlign does not run on the meta device.
    levels = tuple(torch.zeros(level.shape) for level in x)
    return count_flops(model.roi_head, levels, [proposals], [sample])


def _count_cascade(roi_head: nn.Module, boxes: int) -> FlopReport:
    """Count head by head: a cascade's own forward pass computes the masks of all boxes."""
    macs = 0
    for kind, number in (('bbox', boxes), ('mask', MASKS)):
        extractors = getattr(roi_head, f'{kind}_roi_extractor', ())
        for extractor, head in zip(extractors, getattr(roi_head, f'{kind}_head', ()), strict=True):
            size = extractor.roi_layers[0].output_size
            rois = torch.empty(number, extractor.out_channels, *size, device='meta')
            macs += count_flops(head.to('meta'), rois).macs
    return FlopReport(sum(p.numel() for p in roi_head.parameters()), macs, 0)
