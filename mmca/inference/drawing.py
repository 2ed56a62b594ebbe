"""Draw predictions on images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from mmca.inference.results import Detections, Segmentation

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
        result: Detections | Segmentation,
        truth: Detections | Segmentation | None = None,
        whole_legend: bool = False,
    ) -> np.ndarray:
        """Draw a result, with its ground truth on the left if given.

        Args:
            image: (H, W, 3), BGR from 0 to 255.
            result: the prediction.
            truth: the ground truth.
            whole_legend: list all classes below a label map, so that frames of a video keep a size.

        Returns:
            (H', W', 3), BGR, uint8.
        """
        image = image.clip(0, 255).astype(np.uint8)
        if isinstance(result, Detections):
            left = [] if truth is None else [self._draw_objects(image, truth, with_scores=False)]
            return np.hstack([*left, self._draw_objects(image, result, with_scores=True)])
        shown = [result] if truth is None else [truth, result]
        panels = np.hstack([_overlay(image, one) for one in shown])
        ids = range(len(result.names))
        if not whole_legend:
            ids = [i for i in ids if any((one.labels == i).any() for one in shown)]
        entries = [(result.names[i], result.palette[i].tolist()) for i in ids]
        return np.vstack([panels, _legend(entries, panels.shape[1])])

    def _draw_objects(self, image: np.ndarray, result: Detections, with_scores: bool) -> np.ndarray:
        import torch
        from mmdet.structures import DetDataSample
        from mmdet.visualization import DetLocalVisualizer
        from mmengine.structures import InstanceData

        if self._objects is None:
            self._objects = DetLocalVisualizer(line_width=2)
            self._objects.dataset_meta = {'classes': result.names, 'palette': self._palette}
        shown = (
            result.scores >= self.score_thr if with_scores else np.ones(len(result.scores), bool)
        )
        values = {'bboxes': result.boxes, 'labels': result.labels, 'masks': result.masks}
        values |= {'scores': result.scores} if with_scores else {}
        objects = InstanceData()
        for name, value in values.items():
            if value is not None:
                objects.set_field(torch.from_numpy(value[shown]), name)
        # As ground truth: mmdet filters predictions by score once more.
        sample = DetDataSample(gt_instances=objects)
        with _fixed_seed(), warnings.catch_warnings():
            warnings.filterwarnings('ignore', '.*out of bounds')  # at the image's border
            self._objects.add_datasample('image', image[..., ::-1], sample, draw_pred=False)
        return self._objects.get_image()[..., ::-1]


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """Seed numpy: mmdet randomizes the colors of masks, but an image should keep its colors."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


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
