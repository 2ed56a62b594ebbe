"""Split a large image into tiles of one size, and merge the detections in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmca.inference.masks import Masks, unite
from mmca.inference.results import Detections

OVERLAP = 0.5  # share of the area from which two boxes are one object
BORDER = 0.01  # of a tile's side: boxes that end this near to a border of the tile are cut


def tile_stride(tile: int, overlap: float) -> int:
    """Pixels from one tile to the next."""
    return max(round(tile * (1 - overlap)), 1)


def tile_corners(shape: tuple[int, int], tile: int, overlap: float) -> list[tuple[int, int]]:
    """Place tiles over an image; the last ones of a row and a column end with the image.

    Args:
        shape: (H, W) of the image.
        tile: side of a tile in pixels; an image that is smaller is one tile.
        overlap: overlap of neighboring tiles as a fraction of the tile, at least 0, below 1.

    Returns:
        (y, x) of their upper left corners.

    Example:
        >>> tile_corners((100, 250), 100, 0.2)
        [(0, 0), (0, 80), (0, 150)]
    """
    step = tile_stride(tile, overlap)
    rows, columns = ([*range(0, size - tile, step), max(size - tile, 0)] for size in shape)
    return [(y, x) for y in rows for x in columns]


def merge_tiles(
    results: Sequence[Detections],
    corners: Sequence[tuple[int, int]],
    shape: tuple[int, int],
    tile: int,
) -> Detections:
    """Merge the detections of all tiles, following SAHI (Akyon et al., ICIP 2022).

    Only objects of the same class and of different tiles are merged. Complete objects come first:
    of two with an intersection over union above one half, the one with the higher score remains. A
    piece that is cut by the border of its tile is dropped if half of it is inside a complete
    object. The remaining pieces belong to objects that every tile cuts. SAHI joins pieces by the
    intersection over the smaller area, which fails for objects that are long compared to the
    overlap. Here they are joined if their intersection over union is above one half *within the
    area that both tiles see*; box and mask grow to contain all of them.

    Args:
        results: the detections in each tile.
        corners: (y, x) of each tile, see :func:`tile_corners`.
        shape: (H, W) of the image.
        tile: side of a tile in pixels.

    Returns:
        The detections in the image, in descending order of scores.
    """
    owner = np.repeat(np.arange(len(results)), [len(one.scores) for one in results])
    starts = np.array(corners, np.float32)[owner, ::-1]  # x, y
    boxes, scores, labels = (
        np.concatenate([getattr(one, name) for one in results])
        for name in ('boxes', 'scores', 'labels')
    )
    margin = BORDER * tile
    low = (boxes[:, :2] < margin) & (starts > 0)
    high = (boxes[:, 2:] > tile - margin) & (starts + tile < shape[::-1])
    cut = (low | high).any(1)
    boxes = boxes + np.tile(starts, 2)
    seen = np.concatenate([starts, starts + tile], 1)
    free, groups = np.ones(len(boxes), bool), []
    for index in np.lexsort((-scores, cut)):
        if not free[index]:
            continue
        free[index], group = False, [index]
        others = (labels == labels[index]) & (owner != owner[index])
        while (same := free & others & _overlap(boxes, index, cut, seen)).any():
            free[same] = False
            if cut[index]:
                group += same.nonzero()[0].tolist()
                for grown in (boxes, seen):
                    grown[index, :2] = grown[group, :2].min(0)
                    grown[index, 2:] = grown[group, 2:].max(0)
        groups.append(group)
    groups.sort(key=lambda group: -scores[group[0]])
    masks = None
    if results[0].masks is not None:
        tiles = zip(corners, results)
        parts = [part.shift(*corner) for corner, one in tiles for part in one.masks.parts]
        masks = Masks([unite(parts[index] for index in group) for group in groups], shape)
    kept = [index for index, *_ in groups]
    return replace(
        results[0], boxes=boxes[kept], scores=scores[kept], labels=labels[kept], masks=masks
    )


def _overlap(boxes: np.ndarray, index: int, cut: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(N,), bool: whether one of the boxes (N, 4) and each of them are one object."""
    common = _common_area(boxes, boxes[index])
    if cut[index]:
        areas, area = _common_area(boxes, seen[index]), _common_area(seen, boxes[index])
        return common > OVERLAP * (areas + area - common)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return common > OVERLAP * np.where(cut, areas, areas + areas[index] - common)


def _common_area(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(N,): the area of the intersection of each of the boxes (N, 4) and another (4,)."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    return sides.clip(0).prod(1)
