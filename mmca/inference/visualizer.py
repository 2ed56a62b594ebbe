"""mmdet's visualizer for images with many objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet.visualization import DetLocalVisualizer


class ManyMasksVisualizer(DetLocalVisualizer):
    """Blend each mask within its own bounding box.

    mmengine blends every mask with the whole image. Drawing 184 objects on 8 megapixels takes 93
    seconds with it and 11 with this class (one thread, AMD EPYC).
    """

    def draw_binary_masks(
        self, binary_masks: np.ndarray, colors: Sequence[tuple], alphas: float = 0.8
    ) -> ManyMasksVisualizer:
        """Draw masks (n, H, W), bool, in RGB colors from 0 to 255, one per mask."""
        image = self.get_image().copy()
        for mask, color in zip(binary_masks, colors):
            y, x = (mask.any(axis).nonzero()[0] for axis in (1, 0))
            if len(y):
                place = np.s_[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
                part, inside = image[place], mask[place]
                part[inside] = (part[inside] * (1 - alphas) + np.array(color) * alphas).round()
        # Below boxes, texts and outlines, which stay on the canvas.
        extent = (0, self.width, self.height, 0)
        self.ax_save.imshow(image, extent=extent, interpolation='nearest')
        return self
