"""Draw predictions on images."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData

from mmca.inference.predictor import Detections, Result, Segmentation

ALPHA = 0.5  # opacity of colors over the image
ROW, SWATCH, MARGIN, FONT, FONT_SCALE = 20, 12, 6, cv2.FONT_HERSHEY_SIMPLEX, 0.45


def draw(
    image: np.ndarray,
    result: Result,
    palette: np.ndarray,
    score_thr: float = 0.3,
    truth: Result | None = None,
    whole_legend: bool = False,
) -> np.ndarray:
    """Draw boxes and masks with mmdet's visualizer, or a label map with a legend below.

    mmseg's visualizer writes class names over the label map, hides pixels under them and darkens
    pixels without a class, so it is not used.

    Args:
        image: (H, W, 3), BGR from 0 to 255.
        result: the prediction.
        palette: (K, 3), uint8, RGB.
        score_thr: objects with lower scores are left out.
        truth: the ground truth, to draw on the left.
        whole_legend: list all classes, so that all frames of a video have the same size.

    Returns:
        (H', W', 3), BGR, uint8.
    """
    image = image.clip(0, 255).astype(np.uint8)
    if isinstance(result, Detections):
        return _draw_objects(image, result, palette, score_thr, truth)
    shown = [result] if truth is None else [truth, result]
    panels = np.hstack([_overlay(image, one, palette) for one in shown])
    ids = range(len(result.names))
    if not whole_legend:
        ids = [i for i in ids if any((one.labels == i).any() for one in shown)]
    entries = [(result.names[i], palette[i].tolist()) for i in ids]
    return np.vstack([panels, _legend(entries, panels.shape[1])])


def _draw_objects(image, result, palette, score_thr, truth) -> np.ndarray:
    from mmdet.structures import DetDataSample

    from mmca.inference.visualizer import ManyMasksVisualizer

    visualizer = ManyMasksVisualizer(line_width=2)
    colors = [tuple(color) for color in palette.tolist()]
    visualizer.dataset_meta = {'classes': result.names, 'palette': colors}
    found = _to_instances(result, scores=result.scores)
    sample = DetDataSample(pred_instances=found[result.scores >= score_thr])
    if truth is not None:
        sample.gt_instances = _to_instances(truth)
    # mmdet randomizes the colors of masks, but an image should keep its colors.
    state = np.random.get_state()
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*out of bounds')  # at the image's border
        visualizer.add_datasample(
            'image', image[..., ::-1], sample, draw_gt=truth is not None, pred_score_thr=-1
        )
    np.random.set_state(state)
    return visualizer.get_image()[..., ::-1]


def _to_instances(result: Detections, **fields: np.ndarray) -> InstanceData:
    fields |= {'bboxes': result.boxes, 'labels': result.labels}
    if result.masks is not None:
        fields['masks'] = result.masks
    return InstanceData(**{name: torch.from_numpy(values) for name, values in fields.items()})


def _overlay(image: np.ndarray, result: Segmentation, palette: np.ndarray) -> np.ndarray:
    """Blend an image with the colors of its labels; pixels without a class stay unchanged."""
    known = result.labels < len(palette)
    colors = palette[np.where(known, result.labels, 0)][..., ::-1]
    mixed = (image * (1 - ALPHA) + colors * ALPHA).astype(np.uint8)
    return np.where(known[..., None], mixed, image)


def _legend(entries: list[tuple[str, list[int]]], width: int) -> np.ndarray:
    """Draw names with their RGB colors in as many rows as the width requires."""
    strip, x = np.full((ROW, width, 3), 255, np.uint8), MARGIN
    for name, color in entries:
        need = SWATCH + 2 * MARGIN + cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        if x > MARGIN and x + need > width:
            strip, x = np.pad(strip, ((0, ROW), (0, 0), (0, 0)), constant_values=255), MARGIN
        top, bottom = len(strip) - ROW + 4, len(strip) - ROW + 4 + SWATCH
        cv2.rectangle(strip, (x, top), (x + SWATCH, bottom), color[::-1], -1)
        start = (x + SWATCH + MARGIN // 2, bottom - 1)
        cv2.putText(strip, name, start, FONT, FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
        x += need
    return strip
