"""Write predictions to files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np

from mmca.errors import InputError
from mmca.inference.results import Detections, Segmentation
from mmca.io import atomic_write

QUALITY = 95


class DetectionTable:
    """Detections of many images in COCO's layout, readable by `pycocotools.coco.COCO`.

    The file contains 'images', 'categories' and 'annotations'. An annotation is an entry of a COCO
    results list (image_id, category_id, bbox as x y w h, score, segmentation as RLE) with an id.

    Args:
        names: of the classes.
        category_ids: name -> id; default 1, 2, ...
        next_id: the id of the first image added without one.
    """

    def __init__(
        self, names: tuple[str, ...], category_ids: dict[str, int] | None = None, next_id: int = 1
    ) -> None:
        ids = dict(category_ids or {})
        for name in names:
            ids.setdefault(name, max(ids.values(), default=0) + 1)
        self._ids = [ids[name] for name in names]
        self._next_id = next_id
        self.content: dict[str, list] = {
            'images': [],
            'categories': [{'id': ids[name], 'name': name} for name in names],
            'annotations': [],
        }

    def add(self, shape: tuple[int, int], result: Detections, **entry: int | str) -> None:
        """Add an image with all its detections.

        Args:
            shape: (H, W) of the image.
            result: its detections.
            entry: fields of the image: file_name; id; frame, from 0, of a video.
        """
        if 'id' not in entry:
            entry['id'] = self._next_id
            self._next_id += 1
        self.content['images'].append({**entry, 'height': shape[0], 'width': shape[1]})
        annotations = self.content['annotations']
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
                found['segmentation'] = _encode(result.masks[index])
                found['area'] = int(result.masks[index].sum())
            annotations.append(found)

    def write(self, path: Path) -> None:
        """Write the file; it replaces an existing one once complete."""
        with atomic_write(path, 'w') as file:
            json.dump(self.content, file)


def _encode(mask: np.ndarray) -> dict:
    from pycocotools import mask as rle

    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3), BGR, uint8, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])


def write_labels(path: Path, result: Segmentation, reduce_zero_label: bool) -> None:
    """Write a label map in the data set's numbers as a PNG file with a palette.

    Args:
        path: the file; its folder is created.
        result: with at most 256 values in the file.
        reduce_zero_label: whether the data set's files count classes from 1, as in ADE20K.

    Raises:
        InputError: too many classes for 8 bits.
    """
    from PIL import Image

    if len(result.names) + reduce_zero_label > 256:
        raise InputError(f'label maps have at most 256 values, got {len(result.names)} classes')
    image = Image.fromarray((result.labels + reduce_zero_label).astype(np.uint8))
    zero = np.zeros((int(reduce_zero_label), 3), np.uint8)
    image.putpalette(np.vstack([zero, result.palette]).tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        image.save(file, 'PNG')


class VideoFile:
    """An mp4 file, written frame by frame, that gets its name once it is complete.

    Args:
        path: the file, '.mp4'; its folder is created.
        fps: frames per second; 25 if unknown (0).

    Example::

        with VideoFile(Path('out.mp4'), 25) as video:
            video.add(frame)
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._part = path, path.with_name(f'{path.stem}.part.mp4')
        self._fps = fps if fps > 0 else 25.0
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> VideoFile:
        return self

    def add(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3), BGR, uint8; all frames have the same size."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            code, size = cv2.VideoWriter_fourcc(*'mp4v'), frame.shape[1::-1]
            self._writer = cv2.VideoWriter(str(self._part), code, self._fps, size)
            if not self._writer.isOpened():  # frames would be dropped silently
                raise InputError(f'OpenCV cannot write {self._path}: it has no mp4 encoder here')
        self._writer.write(np.ascontiguousarray(frame))

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                os.replace(self._part, self._path)
            else:
                self._part.unlink(missing_ok=True)
