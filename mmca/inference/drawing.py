"""Draw predictions on images."""

from __future__ import annotations

import warnings
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData

from mmca.inference.results import Detections, Result, Segmentation

ALPHA = 0.5  # opacity of colors over the image
ROW, SWATCH, MARGIN, FONT, FONT_SCALE = 20, 12, 6, cv2.FONT_HERSHEY_SIMPLEX, 0.45


class Visualizer:
    """Draw boxes and masks with mmdet's visualizer, and label maps with a legend below.

    mmseg's visualizer writes class names over the label map, hides pixels under them and darkens
    pixels without a class, so it is not used.

    Args:
        palette: (K, 3), uint8, RGB.
        score_thr: objects with lower scores are left out; the attribute may be changed.
    """

    def __init__(self, palette: np.ndarray, score_thr: float = 0.3) -> None:
        self._palette = [tuple(color) for color in palette.tolist()]
        self.score_thr = score_thr
        self._objects: Any = None

    def __call__(
        self,
        image: np.ndarray,
        result: Result,
        truth: Result | None = None,
        whole_legend: bool = False,
    ) -> np.ndarray:
        """Draw a result, with its ground truth on the left if given.

        Args:
            image: (H, W, 3), BGR from 0 to 255.
            result: the prediction.
            truth: the ground truth.
            whole_legend: list all classes below a label map, so that all frames of a video have
                the same size.

        Returns:
            (H', W', 3), BGR, uint8.
        """
        if isinstance(result, Detections):
            return self._draw_objects(image, result, truth)
        shown = [result] if truth is None else [truth, result]
        image = image.clip(0, 255).astype(np.uint8)
        panels = np.hstack([_overlay(image, one) for one in shown])
        ids = range(len(result.names))
        if not whole_legend:
            ids = [i for i in ids if any((one.labels == i).any() for one in shown)]
        entries = [(result.names[i], result.palette[i].tolist()) for i in ids]
        return np.vstack([panels, _legend(entries, panels.shape[1])])

    def _draw_objects(
        self, image: np.ndarray, result: Detections, truth: Detections | None
    ) -> np.ndarray:
        from mmdet.structures import DetDataSample
        from mmdet.visualization import DetLocalVisualizer

        if self._objects is None:
            self._objects = DetLocalVisualizer(line_width=2)
            self._objects.dataset_meta = {'classes': result.names, 'palette': self._palette}
        found = _to_instances(result, result.scores)
        sample = DetDataSample(pred_instances=found[result.scores >= self.score_thr])
        if truth is not None:
            sample.gt_instances = _to_instances(truth)
        # mmdet randomizes the colors of masks, but an image should keep its colors.
        state = np.random.get_state()
        np.random.seed(0)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', '.*out of bounds')  # at the image's border
                self._objects.add_datasample(
                    'image', image[..., ::-1], sample, draw_gt=truth is not None, pred_score_thr=-1
                )
        finally:
            np.random.set_state(state)
        return self._objects.get_image()[..., ::-1]


def _to_instances(result: Detections, scores: np.ndarray | None = None) -> InstanceData:
    fields = {'bboxes': result.boxes, 'labels': result.labels, 'masks': result.masks}
    fields['scores'] = scores
    known = {name: torch.from_numpy(v) for name, v in fields.items() if v is not None}
    return InstanceData(**known)


def _overlay(image: np.ndarray, result: Segmentation) -> np.ndarray:
    """Blend an image with the colors of its labels; pixels without a class stay unchanged."""
    known = result.labels < len(result.names)
    colors = result.palette[np.where(known, result.labels, 0)][..., ::-1]
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
