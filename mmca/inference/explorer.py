"""Predict on an image, and show what its circulant blocks attend to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmca.analysis import equivalent_kernels, recorded_inputs
from mmca.errors import InputError
from mmca.inference.drawing import ALPHA, draw
from mmca.inference.predictor import Predictor
from mmca.inference.results import Result

MAX_SIDE = 1600  # of images; 100 masks of 1600 x 1200 pixels take 190 MB
PANEL = 2.2  # height of a map, in inches
FRAME = {'fill': False, 'color': 'red'}


@dataclass(frozen=True)
class View:
    """An image with its prediction and the kernels of its circulant blocks.

    Attributes:
        name: the file's name.
        image: (H, W, 3), BGR.
        result: the prediction.
        kernels: for each block its path, :func:`equivalent_kernels` averaged over the heads, and
            the (height, width) of a patch in pixels of the image.
    """

    name: str
    image: np.ndarray
    result: Result
    kernels: list[tuple[str, np.ndarray, tuple[float, float]]]


class Explorer:
    """Predict on an image and keep the kernels of the same forward pass.

    Several threads can share an explorer; it does not keep images.

    Attributes:
        no_attention: why there is no attention to show; '' if there is.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._backbone = predictor.model.backbone
        # The model's hooks, mmengine's scope and numpy's seed serve one thread at a time.
        self._lock = Lock()
        self.no_attention = ''
        if not any(getattr(m, 'has_kernel', False) for m in self._backbone.modules()):
            name = type(self._backbone).__name__
            self.no_attention = f'no attention to show: {name} has no circulant blocks'
        elif getattr(predictor.model, 'test_cfg', {}).get('mode') == 'slide':
            self.no_attention = (
                'no attention to show: the model runs on parts of the image; '
                'add --cfg-options model.test_cfg.mode=whole'
            )

    def look(self, path: str | Path) -> View:
        """Predict on an image file, shrunk to `MAX_SIDE`, in one forward pass."""
        with self._lock:
            image = self.predictor.read(path)
            scale = MAX_SIDE / max(image.shape[:2])
            if scale < 1:
                size = [round(side * scale) or 1 for side in image.shape[1::-1]]
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            data, sizes = self.predictor.prepare(image), []
            hook = self._backbone.register_forward_pre_hook(
                lambda _, args: sizes.append(args[0].shape[2:])
            )
            with hook, recorded_inputs(self._backbone) as seen:
                (result,) = self.predictor.forward([data])
            # The backbone's input is the resized image, padded at the bottom and on the right.
            scale_x, scale_y = data['data_samples'].metainfo.get('scale_factor', (1, 1))
            kernels = []
            for one in seen.values() if not self.no_attention else ():
                if one.attn.has_kernel:
                    weights = equivalent_kernels(one)[0].mean(0).cpu().numpy()
                    size = np.array(sizes[0]) / weights.shape / (scale_y, scale_x)
                    kernels.append((one.block, weights, tuple(size)))
            return View(Path(path).name, image, result, kernels)

    def draw(self, view: View, score_thr: float) -> np.ndarray:
        """Draw the result, (H', W, 3), BGR, uint8; the first H rows are the image."""
        with self._lock:
            return draw(view.image, view.result, self.predictor.palette, score_thr)


def draw_attention(view: View, x: float, y: float) -> Figure:
    """Draw the attention of the patch at column x and row y, and the kernel, of each block.

    Colors show the square root of the weights; a red frame marks the patch, and displacement 0, 0
    in the middle of the kernel.
    """
    height, width = view.image.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f'pixel {x}, {y} is outside the image, {width} x {height} (W x H)')
    size = (2 * PANEL * np.clip(width / height, 0.5, 2), (PANEL + 0.35) * len(view.kernels))
    figure, ticks = Figure(figsize=size, layout='constrained'), {'xticks': [], 'yticks': []}
    axes = figure.subplots(len(view.kernels), 2, squeeze=False, subplot_kw=ticks)
    colors = {'cmap': 'viridis', 'vmin': 0, 'aspect': 'auto'}
    image = view.image[..., ::-1].clip(0, 255).astype(np.uint8)
    for (block, weights, (high, wide)), (left, right) in zip(view.kernels, axes):
        rows, columns = weights.shape
        token = (min(int(y / high), rows - 1), min(int(x / wide), columns - 1))
        left.imshow(image, extent=(0, width, height, 0))
        attention = np.sqrt(np.roll(weights, token, (0, 1)))
        covered = (0, columns * wide, rows * high, 0)  # the image and its padding
        left.imshow(attention, extent=covered, alpha=ALPHA, **colors)
        left.set(xlim=(0, width), ylim=(height, 0), title=block)
        left.add_patch(Rectangle((token[1] * wide, token[0] * high), wide, high, **FRAME))
        middle = (rows // 2, columns // 2)
        kernel = np.sqrt(np.roll(weights, middle, (0, 1)))
        right.imshow(kernel, extent=(0, columns, rows, 0), **colors)
        right.set(title=f'kernel, max {weights.max():.2g}')
        right.add_patch(Rectangle(middle[::-1], 1, 1, **FRAME))
    return figure
