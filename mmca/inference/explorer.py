"""Predict on an image, and show where its circulant blocks attend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from mmca.analysis import equivalent_kernels, recorded_inputs
from mmca.errors import InputError
from mmca.inference.drawing import ALPHA, Visualizer
from mmca.inference.predictor import Predictor, Result

MAX_SIDE = 1600  # of images; 100 masks of 1600 x 1200 pixels take 190 MB
PANEL = 240  # height of a map and of a kernel, in pixels
MAX_PANEL = 480  # largest width of either
GAP = 8
MARK = (0, 0, 255)  # red, BGR


@dataclass(frozen=True)
class Kernel:
    """The kernel of one block on an image, averaged over the heads.

    Attributes:
        block: path of the block in the backbone.
        weights: (H, W), float32, with sum one, on the patch grid: at (i, j) the weight of the
            patch i rows below and j columns right of any query, on the torus.
        patch: (height, width) of a patch in pixels of the image.
    """

    block: str
    weights: np.ndarray
    patch: tuple[float, float]

    def token(self, x: float, y: float) -> tuple[int, int]:
        """Return the patch, (row, column), that covers a pixel of the image."""
        rows, columns = self.weights.shape
        row, column = int(y / self.patch[0]), int(x / self.patch[1])
        return min(row, rows - 1), min(column, columns - 1)

    def attention(self, x: float, y: float) -> np.ndarray:
        """Return the attention of the patch at a pixel, (H, W): the kernel shifted there."""
        return np.roll(self.weights, self.token(x, y), (0, 1))


@dataclass(frozen=True)
class View:
    """One image with everything that a page shows of it.

    Attributes:
        name: of the file.
        image: (H, W, 3), BGR.
        result: of the image.
        kernels: of the blocks that have one, first to last.
    """

    name: str
    image: np.ndarray
    result: Result
    kernels: tuple[Kernel, ...]

    def contains(self, x: float, y: float) -> bool:
        """Whether a pixel lies in the image."""
        height, width = self.image.shape[:2]
        return 0 <= x < width and 0 <= y < height


class Explorer:
    """Predict on an image and keep the kernels of the same forward pass.

    Several threads may share an explorer; it keeps no image.

    Args:
        predictor: of a detector or a segmentor.

    Attributes:
        blocks: number of blocks with a kernel in the backbone.
        no_attention: one line that explains why there is no attention to show; '' if there is.

    Example::

        explorer = Explorer(Predictor('coco/maskrcnn_ca_pvt_s', 'epoch_12.pth'))
        view = explorer.look('image.jpg')
        image = explorer.draw(view, score_thr=0.5)
        panels = [draw_attention(view, kernel, x=300, y=200) for kernel in view.kernels]
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._backbone = predictor.model.backbone
        self._visualizer = Visualizer(predictor.palette)
        # The model's hooks, mmengine's scope and mmdet's visualizer serve one thread at a time.
        self._lock = Lock()
        self.blocks = sum(getattr(m, 'has_kernel', False) for m in self._backbone.modules())
        self.no_attention = ''
        if not self.blocks:
            self.no_attention = (
                f'{type(self._backbone).__name__} has no circulant blocks, so there is no '
                'attention to show'
            )
        elif getattr(predictor.model, 'test_cfg', {}).get('mode') == 'slide':
            self.no_attention = (
                'no attention to show: the model sees the image in parts; '
                'change that with --cfg-options model.test_cfg.mode=whole'
            )

    def look(self, path: str | Path) -> View:
        """Predict, in one forward pass.

        Args:
            path: an image file. An image with a side above `MAX_SIDE` is shrunk to it.

        Returns:
            The view.

        Raises:
            InputError: the file is missing, truncated or not an image.
        """
        with self._lock:
            image = self.predictor.read(path)
            height, width = image.shape[:2]
            scale = MAX_SIDE / max(height, width)
            if scale < 1:
                image = _resize(image, (round(width * scale) or 1, round(height * scale) or 1))
            return View(Path(path).name, image, *self._run(self.predictor.prepare(image)))

    def draw(self, view: View, score_thr: float) -> np.ndarray:
        """Draw boxes and masks from a score on, or the label map with its legend below.

        Args:
            view: from :meth:`look`.
            score_thr: objects with lower scores are left out.

        Returns:
            (H', W, 3), BGR, uint8; the first H rows are the image.
        """
        with self._lock:
            self._visualizer.score_thr = score_thr
            return self._visualizer(view.image, view.result)

    def _run(self, data: dict) -> tuple[Result, tuple[Kernel, ...]]:
        shapes = []
        handle = self._backbone.register_forward_pre_hook(
            lambda _, args: shapes.append(args[0].shape[2:])
        )
        try:
            with recorded_inputs(self._backbone) as seen:
                (result,) = self.predictor.forward([data])
        finally:
            handle.remove()
        kernels = []
        # The backbone's input is the resized image, padded at the bottom and on the right.
        scale_x, scale_y = data['data_samples'].metainfo.get('scale_factor', (1, 1))
        height, width = shapes[0][0] / scale_y, shapes[0][1] / scale_x
        for path, one in seen.items() if not self.no_attention else ():
            if one.attn.has_kernel:
                weights = equivalent_kernels(one)[0].mean(0).cpu().numpy()
                patch = (height / weights.shape[0], width / weights.shape[1])
                kernels.append(Kernel(path.removesuffix('.attn'), weights, patch))
        return result, tuple(kernels)


def draw_attention(view: View, kernel: Kernel, x: float, y: float) -> np.ndarray:
    """Draw the attention of the patch at a pixel, and the kernel.

    Args:
        view: the view that the kernel belongs to.
        kernel: of one block.
        x: column of the pixel in the image.
        y: row of the pixel.

    Returns:
        (`PANEL`, W, 3), BGR, uint8: on the left the map over the image; on the right the kernel
        with displacement 0, 0 in the middle. Colors show the square root of the weights; a red
        frame marks the patch and the middle.

    Raises:
        InputError: the pixel lies outside the image.
    """
    height, width = view.image.shape[:2]
    if not view.contains(x, y):
        raise InputError(f'pixel {x}, {y} lies outside the image, {width} x {height} (W x H)')
    size = (min(max(round(PANEL * width / height), 1), MAX_PANEL), PANEL)
    scale = (size[1] / height, size[0] / width)
    patch = (kernel.patch[0] * scale[0], kernel.patch[1] * scale[1])
    rows, columns = kernel.weights.shape

    covered = (max(round(columns * patch[1]), size[0]), max(round(rows * patch[0]), size[1]))
    colors = _resize(_colors(kernel.attention(x, y)), covered)[: size[1], : size[0]]
    image = _resize(view.image.clip(0, 255).astype(np.uint8), size)
    left = cv2.addWeighted(image, 1 - ALPHA, colors, ALPHA, 0)
    _mark(left, kernel.token(x, y), patch)

    middle = (rows // 2, columns // 2)
    right = _resize(_colors(np.roll(kernel.weights, middle, (0, 1))), size)
    _mark(right, middle, (size[1] / rows, size[0] / columns))
    return np.hstack([left, np.full((PANEL, GAP, 3), 255, np.uint8), right])


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to (W, H): enlarged patches keep sharp edges, and shrinking skips no weight."""
    grows = size[0] >= image.shape[1] and size[1] >= image.shape[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if grows else cv2.INTER_AREA)


def _colors(weights: np.ndarray) -> np.ndarray:
    """Color weights (H, W) as (H, W, 3), BGR; the square root keeps small weights visible."""
    levels = np.sqrt(weights / weights.max()) * 255
    return cv2.applyColorMap(levels.round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)


def _mark(panel: np.ndarray, token: tuple[int, int], patch: tuple[float, float]) -> None:
    """Draw a frame around the outside of a patch."""
    (row, column), (height, width) = token, patch
    low = (round(column * width) - 1, round(row * height) - 1)
    high = (round((column + 1) * width), round((row + 1) * height))
    cv2.rectangle(panel, low, high, MARK, 2)
