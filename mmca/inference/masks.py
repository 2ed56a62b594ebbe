"""Masks of many objects in a large image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class MaskPart(NamedTuple):
    """A mask within the rectangle that contains it.

    Attributes:
        y: upper row of the rectangle in the image.
        x: its left column.
        values: (h, w), bool.
    """

    y: int
    x: int
    values: np.ndarray

    @property
    def place(self) -> tuple[slice, slice]:
        """The rectangle, as an index of the image."""
        height, width = self.values.shape
        return np.s_[self.y : self.y + height, self.x : self.x + width]

    def shift(self, y: int, x: int) -> MaskPart:
        """The same mask, further down and to the right."""
        return self._replace(y=self.y + y, x=self.x + x)


@dataclass(frozen=True)
class Masks:
    """N masks in an image of H x W pixels, in the memory of their bounding boxes.

    `masks[i]` is an array (H, W), bool, and `np.asarray(masks)` one of (N, H, W).

    Attributes:
        parts: (y, x, values) of each: where its bounding box begins, and the mask (h, w) in it.
        image_shape: (H, W).

    Example:
        >>> masks = Masks.of(np.eye(3, dtype=bool)[None], (3, 3))
        >>> masks.shape, int(masks[0].sum())
        ((1, 3, 3), 3)
    """

    parts: list[MaskPart]
    image_shape: tuple[int, int]

    @classmethod
    def of(cls, masks: Iterable[np.ndarray], image_shape: tuple[int, int]) -> Masks:
        """Crop masks (H, W), bool."""
        parts = []
        for mask in masks:
            rows, columns = (mask.any(axis).nonzero()[0] for axis in (1, 0))
            y, x = (int(ids[0]) if len(ids) else 0 for ids in (rows, columns))
            values = mask[y : rows[-1] + 1, x : columns[-1] + 1] if len(rows) else mask[:0, :0]
            parts.append(MaskPart(y, x, values.copy()))  # not a view, which would keep the whole
        return cls(parts, image_shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return len(self.parts), *self.image_shape

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4), float32: x1 y1 x2 y2 of the rectangles that contain the masks."""
        corners = [(x, y, x + v.shape[1], y + v.shape[0]) for y, x, v in self.parts]
        return np.array(corners, np.float32).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> np.ndarray:
        whole = np.zeros(self.image_shape, bool)
        whole[self.parts[index].place] = self.parts[index].values
        return whole

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array([*self], dtype or bool).reshape(self.shape)


def unite(parts: Iterable[MaskPart]) -> MaskPart:
    """The pixels that are in any of the masks."""
    parts = list(parts)
    y, x = (min(part[axis] for part in parts) for axis in (0, 1))
    height, width = (
        max(part[axis] + part.values.shape[axis] for part in parts) - start
        for axis, start in ((0, y), (1, x))
    )
    union = MaskPart(y, x, np.zeros((height, width), bool))
    for part in parts:
        union.values[part.shift(-y, -x).place] |= part.values
    return union


def run_lengths(part: MaskPart, image_shape: tuple[int, int]) -> dict[str, Any]:
    """Encode a mask in an image of (H, W) pixels as COCO's compressed RLE; counts are a str."""
    from pycocotools import mask as rle

    height, width = image_shape
    columns = np.zeros((part.values.shape[1], height), bool)
    columns[:, part.place[0]] = part.values.T
    flips = np.diff(columns.ravel(), prepend=False, append=False).nonzero()[0] + part.x * height
    counts = np.diff(flips[flips < height * width], prepend=0, append=height * width).tolist()
    encoded = rle.frPyObjects({'size': [height, width], 'counts': counts}, height, width)
    return encoded | {'counts': encoded['counts'].decode()}
