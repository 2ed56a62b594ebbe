"""Draw predictions on images."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData

from mmca.inference.masks import MaskPart
from mmca.inference.results import Detections, Result, Segmentation

ALPHA = 0.5  # opacity of colors over the image
SHADE = 40  # by which the colors of objects of one class differ, of 255
ROW, SWATCH, MARGIN, FONT, FONT_SCALE = 20, 12, 6, cv2.FONT_HERSHEY_SIMPLEX, 0.45


def draw(
    image: np.ndarray,
    result: Result,
    palette: np.ndarray,
    score_thr: float = 0.3,
    truth: Result | None = None,
    whole_legend: bool = False,
) -> np.ndarray:
    """Draw boxes, names and masks of objects, or a label map with a legend below.

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
        panels = [_draw_objects(image, result, palette, score_thr)]
        if truth is not None:
            panels.insert(0, _draw_objects(image, truth, palette, None))
        return np.hstack(panels)
    shown = [result] if truth is None else [truth, result]
    panels = np.hstack([_overlay(image, one, palette) for one in shown])
    ids = range(len(result.names))
    if not whole_legend:
        ids = [i for i in ids if any((one.labels == i).any() for one in shown)]
    entries = [(result.names[i], palette[i].tolist()) for i in ids]
    return np.vstack([panels, _legend(entries, panels.shape[1])])


def _draw_objects(
    image: np.ndarray, result: Detections, palette: np.ndarray, score_thr: float | None
) -> np.ndarray:
    """Draw objects from a score on, or all without their scores: mmdet draws boxes and names."""
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer

    shown = np.flatnonzero(result.scores >= (score_thr or 0))
    fields = {'bboxes': result.boxes, 'labels': result.labels}
    if score_thr is not None:
        fields['scores'] = result.scores
    objects = InstanceData(**{key: torch.from_numpy(all_[shown]) for key, all_ in fields.items()})
    if result.masks is not None:
        parts = [result.masks.parts[index] for index in shown]
        image = _draw_masks(image, parts, palette[result.labels[shown]])
    visualizer = DetLocalVisualizer(line_width=2)
    colors = [tuple(color) for color in palette.tolist()]
    visualizer.dataset_meta = {'classes': result.names, 'palette': colors}
    sample = DetDataSample(gt_instances=objects)  # unlike predictions, drawn without a threshold
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*out of bounds')  # at the image's border
        visualizer.add_datasample('image', image[..., ::-1], sample, draw_pred=False)
    return visualizer.get_image()[..., ::-1]


def _draw_masks(image: np.ndarray, parts: list[MaskPart], colors: np.ndarray) -> np.ndarray:
    """Blend masks in RGB colors (n, 3) and outline them.

    mmengine blends each mask with the whole image, which needs an image per object.
    """
    image = image.copy()
    shades = np.random.default_rng(0).integers(-SHADE, SHADE + 1, colors.shape)
    for part, color in zip(parts, (colors + shades).clip(0, 255)[:, ::-1]):
        area = image[part.place]
        area[part.values] = area[part.values] * (1 - ALPHA) + color * ALPHA
        outlines = cv2.findContours(
            part.values.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )[0]
        cv2.drawContours(area, outlines, -1, (255, 255, 255))
    return image


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
