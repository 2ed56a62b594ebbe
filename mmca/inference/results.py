"""Predictions for one image, as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """N objects in an image of H x W pixels, best scores first.

    Attributes:
        boxes: (N, 4), float32, x1 y1 x2 y2 in pixels of the image.
        scores: (N,), float32, from 0 to 1.
        labels: (N,), int64, indices into `names`.
        names: of all classes of the model.
        masks: (N, H, W), bool, or None if the model predicts no masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of an image of H x W pixels.

    Attributes:
        labels: (H, W), uint8 (int64 with more than 255 classes), indices into `names`; 255 marks
            pixels without a class in ground truth.
        names: of all classes of the model.
        palette: (K, 3), uint8, the RGB colors of the K classes.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    palette: np.ndarray


Result = Detections | Segmentation
