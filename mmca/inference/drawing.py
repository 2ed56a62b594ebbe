"""Images with what was predicted on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from mmca.inference.results import Detections, Segmentation

ALPHA = 0.5  # of colors over the image
ROW, SWATCH, MARGIN, FONT = 20, 12, 6, cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.45


class Painter:
    """Draws results: boxes and masks by mmdet's visualizer, label maps with a legend.

    Args:
        palette: (K, 3), uint8, RGB.
        score_thr: objects with lower scores are left out; an attribute that may be changed.
    """

    def __init__(self, palette: np.ndarray, score_thr: float = 0.3) -> None:
        self._palette = palette
        self.score_thr = score_thr
        self._visualizer: Any = None

    def __call__(
        self,
        image: np.ndarray,
        result: Detections | Segmentation,
        truth: Detections | Segmentation | None = None,
        whole_legend: bool = False,
    ) -> np.ndarray:
        """Draw a result, with the ground truth on the left of it if there is one.

        Args:
            image: (H, W, 3), BGR from 0 to 255.
            result: of the image.
            truth: of the image.
            whole_legend: name all classes below a label map, not those in it alone: the frames of
                a video must have one size.

        Returns:
            (H', W', 3), BGR, uint8.
        """
        image = image.clip(0, 255).astype(np.uint8)
        if isinstance(result, Detections):
            left = [] if truth is None else [self._objects(image, truth, with_scores=False)]
            return np.hstack([*left, self._objects(image, result, with_scores=True)])
        shown = [result] if truth is None else [truth, result]
        panels = np.hstack([_overlay(image, one) for one in shown])
        number = len(result.names)
        present = {int(i) for one in shown for i in np.unique(one.labels)}
        chosen = range(number) if whole_legend else sorted(i for i in present if i < number)
        entries = [(result.names[i], result.palette[i]) for i in chosen]
        return np.vstack([panels, _legend(entries, panels.shape[1])])

    def _objects(self, image: np.ndarray, result: Detections, with_scores: bool) -> np.ndarray:
        import torch
        from mmdet.structures import DetDataSample
        from mmdet.visualization import DetLocalVisualizer
        from mmengine.structures import InstanceData

        if self._visualizer is None:
            self._visualizer = DetLocalVisualizer(line_width=2)
            palette = [tuple(map(int, color)) for color in self._palette]
            self._visualizer.dataset_meta = {'classes': result.names, 'palette': palette}
        objects = InstanceData()
        chosen = np.ones(len(result.scores), bool)
        if with_scores:
            chosen = result.scores >= self.score_thr
            objects.scores = torch.from_numpy(result.scores[chosen])
        objects.bboxes = torch.from_numpy(result.boxes[chosen])
        objects.labels = torch.from_numpy(result.labels[chosen])
        if result.masks is not None:
            objects.masks = torch.from_numpy(result.masks[chosen])
        # mmdet draws scores where there are some, and filters what it calls predictions.
        sample = DetDataSample(gt_instances=objects)
        with _fixed_seed(), warnings.catch_warnings():
            warnings.filterwarnings('ignore', '.*out of bounds')  # at the image's border
            self._visualizer.add_datasample('image', image[..., ::-1], sample, draw_pred=False)
        return self._visualizer.get_image()[..., ::-1]


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """A seed of numpy: mmdet varies the colors of masks, and an image is to keep its own."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _overlay(image: np.ndarray, result: Segmentation) -> np.ndarray:
    """The image under the colors of its labels; where there is no class it stays as it is."""
    known = result.labels < len(result.names)
    colors = result.palette[np.where(known, result.labels, 0)][..., ::-1]
    mixed = (image * (1 - ALPHA) + colors * ALPHA).astype(np.uint8)
    return np.where(known[..., None], mixed, image)


def _legend(entries: list[tuple[str, np.ndarray]], width: int) -> np.ndarray:
    """Names with their colors, in as many rows as a width needs: (H, width, 3), BGR, uint8."""
    places, x, row = [], MARGIN, 0
    for name, color in entries:
        need = SWATCH + 2 * MARGIN + cv2.getTextSize(name, FONT, FONT_SCALE, 1)[0][0]
        if x > MARGIN and x + need > width:
            x, row = MARGIN, row + 1
        places.append((name, color, x, row * ROW))
        x += need
    strip = np.full(((row + 1) * ROW, width, 3), 255, np.uint8)
    for name, color, x, y in places:
        low, high = (x, y + 4), (x + SWATCH, y + 4 + SWATCH)
        cv2.rectangle(strip, low, high, [int(value) for value in color[::-1]], -1)
        start = (x + SWATCH + MARGIN // 2, y + 4 + SWATCH - 1)
        cv2.putText(strip, name, start, FONT, FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
