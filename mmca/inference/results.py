"""What a model finds in an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

import numpy as np

from mmca.inference.masks import Masks


@dataclass(frozen=True)
class Detections:
    """N objects in an image of H x W pixels, in descending order of scores.

    Attributes:
        boxes: (N, 4), float32, x1 y1 x2 y2 in pixels of the image.
        scores: (N,), float32, from 0 to 1.
        labels: (N,), int64, indices into `names`.
        names: the model's class names.
        masks: `masks[i]` is (H, W), bool, `np.asarray(masks)` is (N, H, W); None if the model
            predicts no masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    masks: Masks | None = None


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of an image of H x W pixels.

    Attributes:
        labels: (H, W), uint8 (int64 with more than 255 classes), indices into `names`; 255 marks
            pixels without a class in ground truth.
        names: the model's class names.
        palette: (K, 3), uint8, the RGB colors of the K classes.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    palette: np.ndarray


Result = Union[Detections, Segmentation]
