"""Write predictions to files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmca.errors import InputError
from mmca.inference.ground_truth import CocoTruth, next_free
from mmca.inference.masks import run_lengths
from mmca.inference.results import Detections, Segmentation
from mmca.io import atomic_write

JPEG_QUALITY = 95


class DetectionTable:
    """Detections of many images in COCO's layout, readable by `pycocotools.coco.COCO`.

    Annotations are entries of a COCO results list (bbox as x y w h, score, segmentation as RLE)
    with an id. Classes and images without an id in the ground truth get the next free ones.
    """

    def __init__(self, names: tuple[str, ...], truth: CocoTruth | None = None) -> None:
        ids = dict(truth.category_ids) if truth else {}
        for name in names:
            ids.setdefault(name, next_free(ids.values()))
        self._ids = [ids[name] for name in names]
        self._free = count(truth.next_id if truth else 1)
        categories = [{'id': ids[name], 'name': name} for name in names]
        self.content = {'images': [], 'categories': categories, 'annotations': []}

    def add(self, shape: tuple[int, int], result: Detections, **entry: int | str) -> None:
        """Add an image of `shape` (H, W) with its detections; `entry` has its file_name, id, ..."""
        images, annotations = self.content['images'], self.content['annotations']
        if 'id' not in entry:
            entry['id'] = next(self._free)
        images.append({**entry, 'height': shape[0], 'width': shape[1]})
        for index, (x1, y1, x2, y2) in enumerate(result.boxes.tolist()):
            found = {
                'id': len(annotations) + 1,
                'image_id': entry['id'],
                'category_id': self._ids[result.labels[index]],
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'score': float(result.scores[index]),
                'area': (x2 - x1) * (y2 - y1),
                'iscrowd': 0,
            }
            if result.masks is not None:
                part = result.masks.parts[index]
                found['segmentation'] = run_lengths(part, shape)
                found['area'] = int(part.values.sum())
            annotations.append(found)

    def write(self, path: Path) -> None:
        with atomic_write(path, 'w') as file:
            json.dump(self.content, file)


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3), BGR, uint8, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def write_labels(path: Path, result: Segmentation, reduce_zero_label: bool) -> None:
    """Write a label map with the class numbers of the data set as a PNG file with a palette.

    With `reduce_zero_label`, the data set's files count classes from 1, as in ADE20K.
    """
    if len(result.names) + reduce_zero_label > 256:
        raise InputError(f'label maps have at most 256 values, got {len(result.names)} classes')
    image = Image.fromarray((result.labels + reduce_zero_label).astype(np.uint8))
    image.putpalette([0, 0, 0] * reduce_zero_label + result.palette.flatten().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        image.save(file, 'PNG')


@contextmanager
def open_video(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Open an mp4 file that gets its name when it is complete; without frames, there is no file.

    Args:
        path: the file; its folder is created.
        fps: frames per second; 25 if unknown (0).

    Yields:
        A function that appends a frame (H, W, 3), BGR, uint8; all must have the same size.
    """
    part, writer = path.with_name(f'{path.stem}.part.mp4'), cv2.VideoWriter()
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(frame: np.ndarray) -> None:
        if not writer.isOpened():
            code, size = cv2.VideoWriter_fourcc(*'mp4v'), frame.shape[1::-1]
            if not writer.open(str(part), code, fps if fps > 0 else 25.0, size):
                raise InputError(f'OpenCV cannot write {path}: it has no mp4 encoder')
        writer.write(np.ascontiguousarray(frame))

    try:
        yield write
        if writer.isOpened():
            writer.release()
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
