"""What detectors do with boxes, as operators that torch.export keeps and ONNX has.

PyTorch runs mmcv's; in a file they are ONNX's NonMaxSuppression, RoiAlign and TopK. The numbers of
boxes in their results depend on values, so torch.export must not look into them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmcv import ops
from torch import Tensor


@torch.library.custom_op('mmca::best', mutates_args=())
def best(scores: Tensor, number: int) -> Tensor:
    """Indices of the highest of (N,) scores in descending order, `number` or N if that is less."""
    return scores.sort(descending=True)[1][:number].clone()


@torch.library.custom_op('mmca::nms', mutates_args=())
def nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thr: float, number: int) -> Tensor:
    """Indices of at most `number` boxes that suppression leaves in each group, best scores first.

    Args:
        boxes: (N, 4), float32, x1 y1 x2 y2.
        scores, groups: (N,); boxes suppress each other within a group, such as a class.
        iou_thr: boxes with a larger intersection over union are suppressed.
        number: of indices.
    """
    if not len(boxes):  # mmcv takes their maximum
        return groups.new_empty(0)
    settings = {'type': 'nms', 'iou_threshold': iou_thr}
    return ops.batched_nms(boxes, scores, groups, settings)[1][:number].clone()


@torch.library.custom_op('mmca::roi_align', mutates_args=())
def roi_align(maps: Tensor, boxes: Tensor, size: int, scale: float, samples: int) -> Tensor:
    """RoIAlign of one image.

    Args:
        maps: (1, C, H, W), float32.
        boxes: (N, 4), in pixels of the image.
        size: S, cells of a region each way.
        scale: from pixels of the image to cells of the map.
        samples: in each cell, each way; 0 for one every cell of the map.

    Returns:
        (N, C, S, S).
    """
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    return ops.roi_align(maps, rois, size, scale, samples)


@best.register_fake
def _(scores: Tensor, number: int) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size(max=number)
    return scores.new_empty(size, dtype=torch.int64)


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thr: float, number: int) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size(max=number)
    return scores.new_empty(size, dtype=torch.int64)


@roi_align.register_fake
def _(maps: Tensor, boxes: Tensor, size: int, scale: float, samples: int) -> Tensor:
    return maps.new_empty(boxes.shape[0], maps.shape[1], size, size)


def onnx_translations() -> dict[Callable, Callable]:
    """Write the operators in ONNX, for `torch.onnx.export(custom_translation_table=...)`."""
    from onnx import TensorProto
    from onnxscript import opset18 as op

    def best_onnx(scores, number: int):
        _, indices = op.TopK(scores, op.Min(op.Shape(scores), op.Constant(value_ints=[number])))
        return indices

    def nms_onnx(boxes, scores, groups, iou_thr: float, number: int):
        # As mmcv does, move the groups apart; the 0 is the maximum of no boxes.
        zero = op.Constant(value_floats=[0.0])
        corners = op.Concat(op.Reshape(boxes, op.Constant(value_ints=[-1])), zero, axis=0)
        distance = op.Add(op.ReduceMax(corners), op.Constant(value_floats=[1.0]))
        shifts = op.Mul(op.Cast(groups, to=TensorProto.FLOAT), distance)
        kept = op.NonMaxSuppression(
            op.Unsqueeze(op.Add(boxes, op.Unsqueeze(shifts, [1])), [0]),
            op.Unsqueeze(scores, [0, 1]),
            op.Constant(value_ints=[number]),
            op.Constant(value_floats=[iou_thr]),
        )
        return op.Gather(kept, op.Constant(value_int=2), axis=1)  # of batch, class, box

    def roi_align_onnx(maps, boxes, size: int, scale: float, samples: int):
        zeros = op.Expand(op.Constant(value_ints=[0]), op.Shape(boxes, start=0, end=1))
        return op.RoiAlign(
            maps,
            boxes,
            zeros,
            coordinate_transformation_mode='half_pixel',
            output_height=size,
            output_width=size,
            sampling_ratio=samples,
            spatial_scale=scale,
        )

    library = torch.ops.mmca
    return {
        library.best.default: best_onnx,
        library.nms.default: nms_onnx,
        library.roi_align.default: roi_align_onnx,
    }
