"""Box operators for exported detectors: mmcv's in PyTorch, ONNX's own in a file.

Custom operators, because torch.export cannot trace into functions whose output sizes depend on
values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmcv import ops
from torch import Tensor


@torch.library.custom_op('mmca::best', mutates_args=())
def best(scores: Tensor, number: int) -> Tensor:
    """Indices of the `number` highest of (N,) scores (all if N is less), in descending order."""
    return scores.sort(descending=True)[1][:number].clone()


@torch.library.custom_op('mmca::nms', mutates_args=())
def nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thr: float, number: int) -> Tensor:
    """Indices of at most `number` boxes that survive suppression, best scores first.

    Args:
        boxes: (N, 4), float32, x1 y1 x2 y2.
        scores, groups: (N,); boxes suppress each other within a group, such as a class.
        iou_thr: a box suppresses those with a larger intersection over union.
        number: largest number of indices.
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
        size: S, cells per side of a region.
        scale: cells of the map per pixel of the image.
        samples: per side of each cell; 0 chooses one per cell of the map.

    Returns:
        (N, C, S, S).
    """
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    return ops.roi_align(maps, rois, size, scale, samples)


@best.register_fake
def _fake_indices(scores: Tensor, number: int) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size(max=number)
    return scores.new_empty(size, dtype=torch.int64)


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thr: float, number: int) -> Tensor:
    return _fake_indices(scores, number)


@roi_align.register_fake
def _(maps: Tensor, boxes: Tensor, size: int, scale: float, samples: int) -> Tensor:
    return maps.new_empty(boxes.shape[0], maps.shape[1], size, size)


def onnx_translations() -> dict[Callable, Callable]:
    """Return the operators in ONNX, for `torch.onnx.export(custom_translation_table=...)`."""
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
