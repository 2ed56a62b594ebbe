"""A detector's heads and their postprocessing, in operators that ONNX has."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.export.box_ops import best, nms, roi_align

LIMIT = -math.log(16 / 1000)  # of the log growth of a box, as in mmdet's coder


class DetectorHeads(nn.Module):
    """Feature maps of one image -> objects, equal to the `predict` of mmdet's heads.

    mmdet's own code branches on numbers of boxes, which an exported file cannot do.

    Args:
        model: a RetinaNet, Faster R-CNN or Mask R-CNN of mmdet; its heads are copied.

    Attributes:
        outputs: names of the outputs.

    Raises:
        InputError: a part of the model has another type.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        _check(model)
        two_stages = hasattr(model, 'roi_head')
        self.dense = copy.deepcopy(model.rpn_head if two_stages else model.bbox_head)
        self.roi = copy.deepcopy(model.roi_head) if two_stages else None
        self.with_masks = two_stages and model.roi_head.with_mask
        self.outputs = ('boxes', 'scores', 'labels', 'masks')[: 4 if self.with_masks else 3]

    def forward(self, maps: Sequence[Tensor], shape: tuple[int, int]) -> tuple[Tensor, ...]:
        """Compute the objects, best scores first.

        Args:
            maps: (1, C, H_i, W_i) from the neck.
            shape: (H, W) of the image without padding, to which boxes are clipped.

        Returns:
            Boxes (N, 4), scores (N,), labels (N,), and with a mask head masks (N, H, W), bool.
        """
        boxes, scores, labels = self._dense_boxes(maps, shape)
        if self.roi is None:
            return boxes, scores, labels
        boxes, scores, labels = self._region_boxes(maps, boxes, shape)
        if not self.with_masks:
            return boxes, scores, labels
        return boxes, scores, labels, self._masks(maps, boxes, labels, shape)

    def _dense_boxes(self, maps: Sequence[Tensor], shape: tuple[int, int]) -> tuple[Tensor, ...]:
        """Boxes, scores and labels of the dense head; the label of a proposal is its level."""
        head, settings = self.dense, self.dense.test_cfg
        classes, parts = head.cls_out_channels, []
        all_logits, all_deltas = head(maps)
        anchors = head.prior_generator.grid_priors(
            [one.shape[2:] for one in all_logits], device=all_logits[0].device
        )
        for level, (logits, deltas) in enumerate(zip(all_logits, all_deltas)):
            scores = logits[0].float().permute(1, 2, 0).flatten().sigmoid()
            if self.roi is None:
                kept = (scores > settings.score_thr).nonzero()[:, 0]
                kept = kept[best(scores[kept], settings.nms_pre)]
            else:
                kept = best(scores, settings.nms_pre)
            anchor, label = kept // classes, kept % classes
            deltas = deltas[0].float().permute(1, 2, 0).reshape(-1, 4)[anchor]
            boxes = _decode(head.bbox_coder, anchors[level][anchor], deltas, shape)
            group = label if self.roi is None else torch.full_like(kept, level)
            parts.append((boxes, scores[kept], group))
        boxes, scores, groups = (torch.cat(part) for part in zip(*parts))
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides > settings.get('min_bbox_size', -1)).all(1).nonzero()[:, 0]
        return _suppress(boxes[large], scores[large], groups[large], settings)

    def _region_boxes(
        self, maps: Sequence[Tensor], proposals: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        head, settings = self.roi.bbox_head, self.roi.test_cfg
        features, order = _pool(self.roi.bbox_roi_extractor, maps, proposals)
        logits, deltas = (one.float() for one in head(features))
        scores = logits.softmax(1)[:, :-1]  # without the background
        proposal, label = (scores > settings.score_thr).nonzero().unbind(1)
        deltas = deltas.unflatten(1, (-1, 4))
        deltas = deltas[proposal, torch.zeros_like(label) if head.reg_class_agnostic else label]
        boxes = _decode(head.bbox_coder, proposals[order][proposal], deltas, shape)
        return _suppress(boxes, scores[proposal, label], label, settings)

    def _masks(
        self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        """(N, H, W), bool: the masks of the labels, pasted into the image."""
        head = self.roi.mask_head
        features, order = _pool(self.roi.mask_roi_extractor, maps, boxes)
        logits, labels, boxes = head(features).float(), labels[order], boxes[order]
        if head.class_agnostic:
            labels = torch.zeros_like(labels)
        soft = logits[torch.arange(labels.shape[0], device=labels.device), labels].sigmoid()
        rows, columns = (
            _interpolation(boxes[:, axis], boxes[:, axis + 2], soft.shape[1], size)
            for axis, size in ((1, shape[0]), (0, shape[1]))
        )
        masks = rows @ soft @ columns.mT >= self.roi.test_cfg.mask_thr_binary
        return masks[order.argsort()]


def _check(model: nn.Module) -> None:
    """Refuse a model whose prediction is not what :class:`DetectorHeads` restates."""
    for part, value, known in _parts(model):
        kind = value if isinstance(value, str) else type(value).__name__
        if kind != known:
            raise InputError(
                f'cannot export all of {type(model).__name__}: its {part} is {kind}, not {known}; '
                'add --feature-maps to export only backbone and neck'
            )


def _parts(model: nn.Module) -> Iterator[tuple[str, object, str]]:
    """(name, part, its only supported type); a part needs the ones before it."""
    roi = getattr(model, 'roi_head', None)
    dense = getattr(model, 'bbox_head' if roi is None else 'rpn_head', None)
    yield 'dense head', dense, 'RetinaHead' if roi is None else 'RPNHead'
    yield 'score', 'sigmoid' if dense.use_sigmoid_cls else 'softmax', 'sigmoid'
    heads = [dense]
    if roi is not None:
        yield 'RoI head', roi, 'StandardRoIHead'
        yield 'classification loss', roi.bbox_head.loss_cls, 'CrossEntropyLoss'
        heads.append(roi.bbox_head)
        for name in ('bbox', 'mask') if roi.with_mask else ('bbox',):
            extractor = getattr(roi, f'{name}_roi_extractor')
            yield 'RoI extractor', extractor, 'SingleRoIExtractor'
            yield 'RoI layer', extractor.roi_layers[0], 'RoIAlign'
    for head, settings in zip(heads, (dense.test_cfg, getattr(roi, 'test_cfg', None))):
        yield 'box coder', head.bbox_coder, 'DeltaXYWHBBoxCoder'
        plain = {'type': 'nms', 'iou_threshold': settings.nms.get('iou_threshold')}
        yield 'NMS', str({'type': 'nms', **settings.nms}), str(plain)


def _suppress(boxes: Tensor, scores: Tensor, groups: Tensor, settings: Mapping) -> list[Tensor]:
    kept = nms(boxes, scores, groups, settings.nms.iou_threshold, settings.max_per_img)
    return [one[kept] for one in (boxes, scores, groups)]


def _decode(coder: object, boxes: Tensor, deltas: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes (N, 4), moved and scaled by deltas (N, 4), within an image of `shape`."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = (boxes[:, :2] + boxes[:, 2:]) * 0.5 + sides * deltas[:, :2]
    halves = sides * deltas[:, 2:].clamp(-LIMIT, LIMIT).exp() * 0.5
    sides = torch.cat([centers - halves, centers + halves], 1).unbind(1)
    if coder.clip_border:
        sides = [side.clamp(0, shape[1 - axis % 2]) for axis, side in enumerate(sides)]
    return torch.stack(sides, 1)


def _pool(extractor: nn.Module, maps: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, C, S, S) of boxes (N, 4), level by level, and the boxes' order in them."""
    layers = extractor.roi_layers
    scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    levels = (scale / extractor.finest_scale + 1e-6).log2().floor().clamp(0, len(layers) - 1)
    order = [(levels == level).nonzero()[:, 0] for level in range(len(layers))]
    # Boxes need float32, and ONNX's RoiAlign takes maps of the same type.
    features = [
        roi_align(
            one.float(),
            boxes[kept],
            layer.output_size[0],
            layer.spatial_scale,
            layer.sampling_ratio,
        )
        for one, kept, layer in zip(maps, order, layers)
    ]
    return torch.cat(features).to(maps[0].dtype), torch.cat(order)


def _interpolation(start: Tensor, end: Tensor, cells: int, size: int) -> Tensor:
    """(N, size, cells): bilinear weights of cells between start and end, both (N,), at pixels.

    Bilinear sampling of an upright box is one product along each axis.
    """
    pixels = torch.arange(size, device=start.device) + 0.5
    positions = (pixels - start[:, None]) / (end - start)[:, None] * cells - 0.5
    distance = positions[..., None] - torch.arange(cells, device=start.device)
    return (1 - distance.abs()).clamp(min=0)
