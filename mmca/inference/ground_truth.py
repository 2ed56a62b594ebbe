"""The ground truth of images, to draw beside predictions."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mmca.errors import InputError
from mmca.inference.classes import dataset_settings
from mmca.inference.predictor import Predictor, type_name
from mmca.inference.results import Detections, Segmentation
from mmca.inference.sources import Source


class CocoTruth:
    """The boxes and masks of a COCO file.

    An image is the entry whose `file_name` ends the path of the image; of two images with the
    same ending, the first.

    Args:
        path: the file.
        names: the classes of the model; categories of other names are left out.

    Attributes:
        category_ids: name -> id, of all categories of the file.
        next_id: above the ids of all images.

    Raises:
        InputError: no COCO file.
    """

    def __init__(self, path: str, names: tuple[str, ...]) -> None:
        from pycocotools.coco import COCO

        from mmca.errors import warn

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco = COCO(path)
            self.category_ids = {c['name']: c['id'] for c in self._coco.dataset['categories']}
            self.next_id = max(self._coco.imgs, default=0) + 1
            self._by_name: dict[str, list[dict]] = {}
            for image in self._coco.imgs.values():
                self._by_name.setdefault(Path(image['file_name']).name, []).append(image)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise InputError(f'--ann {path} is no COCO file: {_reason(error)}') from error
        unknown = [name for name in self.category_ids if name not in names]
        if len(unknown) == len(self.category_ids):
            raise InputError(
                f'--ann {path} has none of the classes of the model: {", ".join(names[:3])}'
                f'{", ..." if len(names) > 3 else ""}'
            )
        if unknown:
            warn(f'--ann {path}: the model has no class {", ".join(unknown)}; left out')
        self._path, self._names = path, names

    def find(self, source: Source) -> dict | None:
        """Find the entry of an image, and let no other image have it.

        Args:
            source: the image.

        Returns:
            The entry, or None.
        """
        images = self._by_name.get(source.path.name, [])
        for image in images:
            parts = Path(image['file_name']).parts
            if source.path.parts[-len(parts) :] == parts:
                images.remove(image)
                return image
        return None

    def read(self, image: dict, shape: tuple[int, int]) -> Detections:
        """The objects of an image.

        Args:
            image: the entry from :meth:`find`.
            shape: (H, W) of the image file.

        Returns:
            Boxes with score 1, and masks where all objects have one.

        Raises:
            InputError: the entry gives another size, or its objects are broken.
        """
        try:
            return self._objects(image, shape)
        except (LookupError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f'--ann {self._path}, image id {image["id"]}, is broken: {_reason(error)}'
            ) from error

    def _objects(self, image: dict, shape: tuple[int, int]) -> Detections:
        if (image['height'], image['width']) != tuple(shape):
            raise InputError(
                f'--ann lists it as {image["width"]} x {image["height"]}, '
                f'but it is {shape[1]} x {shape[0]}'
            )
        labels = {self.category_ids.get(name): i for i, name in enumerate(self._names)}
        objects = [a for a in self._coco.imgToAnns[image['id']] if a['category_id'] in labels]
        boxes = np.array([o['bbox'] for o in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = None
        if objects and all(o.get('segmentation') for o in objects):
            masks = np.stack([self._coco.annToMask(o) for o in objects]).astype(bool)
        indices = np.array([labels[o['category_id']] for o in objects], np.int64)
        return Detections(boxes, np.ones(len(boxes), np.float32), indices, self._names, masks)


class LabelMapTruth:
    """A folder of label maps: the map of DIR/a/1.jpg is a/1.png or 1.png in it.

    The config's data set says how maps are read, and which suffix they have.

    Args:
        folder: of the label maps.
        predictor: of a segmentor.

    Raises:
        InputError: no such folder.
    """

    def __init__(self, folder: str, predictor: Predictor) -> None:
        from mmengine.registry import TRANSFORMS, DefaultScope

        if not Path(folder).is_dir():
            raise InputError(f'--ann {folder} is no folder of label maps')
        self._folder = Path(folder)
        self._predictor = predictor
        steps = dataset_settings(predictor.cfg).get('pipeline') or []
        step = next((s for s in steps if type_name(s) == 'LoadAnnotations'), None)
        step = step or {'type': 'LoadAnnotations'}
        with DefaultScope.overwrite_default_scope('mmseg'):
            self._load = TRANSFORMS.build(step)

    def find(self, source: Source) -> Path | None:
        """Find the label map of an image.

        Args:
            source: the image.

        Returns:
            The file, or None.
        """
        dataset = self._predictor.dataset
        for name in (source.file_name, source.path.name):
            stem = name.removesuffix(dataset.img_suffix)
            stem = str(Path(name).with_suffix('')) if stem == name else stem
            path = self._folder / f'{stem}{dataset.seg_map_suffix}'
            if path.is_file():
                return path
        return None

    def read(self, path: Path, shape: tuple[int, int]) -> Segmentation:
        """Read a label map as `mmca test` does.

        Args:
            path: from :meth:`find`.
            shape: (H, W) of the image.

        Returns:
            The labels.

        Raises:
            InputError: it cannot be read, or its size is not the image's.
        """
        dataset = self._predictor.dataset
        info = {'seg_map_path': str(path), 'label_map': dataset.label_map, 'seg_fields': []}
        info['reduce_zero_label'] = dataset.reduce_zero_label
        try:
            labels = self._load(info)['gt_seg_map']
        except Exception as error:
            raise InputError(f'cannot read its label map {path}: {_reason(error)}') from error
        if labels.shape != tuple(shape):
            raise InputError(f'its label map {path} is {labels.shape}, the image {tuple(shape)}')
        return Segmentation(labels, self._predictor.names, self._predictor.palette)


def open_truth(path: str, predictor: Predictor) -> CocoTruth | LabelMapTruth:
    """The ground truth of the kind that a model predicts.

    Args:
        path: a COCO file for a detector, a folder of label maps for a segmentor.
        predictor: the model.

    Raises:
        InputError: it is not that.
    """
    if predictor.library == 'mmseg':
        return LabelMapTruth(path, predictor)
    if not Path(path).is_file():
        raise InputError(f'--ann {path} is no file; a detector takes a COCO file')
    return CocoTruth(path, predictor.names)


def _reason(error: Any) -> str:
    kind = '' if isinstance(error, (OSError, json.JSONDecodeError)) else type(error).__name__ + ' '
    return f'{kind}{" ".join(str(error).split())}'
