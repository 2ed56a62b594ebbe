"""Read ground truth, to draw it beside predictions."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from textwrap import shorten

import numpy as np
from mmengine.registry import TRANSFORMS, DefaultScope

from mmca.errors import InputError, warn
from mmca.inference.predictor import Predictor, type_name
from mmca.inference.results import Detections, Segmentation
from mmca.inference.sources import Source


class CocoTruth:
    """Boxes and masks of a COCO file.

    An entry belongs to the first image whose path ends in its `file_name`.

    Args:
        path: the file.
        predictor: the model; categories that it does not know are ignored.

    Attributes:
        category_ids: name -> id, of all categories in the file.
        next_id: larger than the ids of all images.

    Raises:
        InputError: not a COCO file, or without any class of the model.
    """

    def __init__(self, path: str | Path, predictor: Predictor) -> None:
        from pycocotools.coco import COCO

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco = COCO(str(path))
            self.category_ids = {c['name']: c['id'] for c in self._coco.dataset['categories']}
            self.next_id = max(self._coco.imgs, default=0) + 1
            self._by_name: dict[str, list[dict]] = {}
            for image in self._coco.imgs.values():
                self._by_name.setdefault(Path(image['file_name']).name, []).append(image)
        except Exception as error:
            reason = f'{type(error).__name__}: {error}'
            raise InputError(f'--ann {path} is not a COCO file ({reason})') from error
        self._names = predictor.names
        unknown = [name for name in self.category_ids if name not in self._names]
        if len(unknown) == len(self.category_ids):
            names = shorten(', '.join(self._names), 60, placeholder=' ...')
            raise InputError(f'--ann {path} has none of the classes of the model: {names}')
        if unknown:
            warn(f'--ann {path}: ignoring {", ".join(unknown)}, which the model does not know')

    def find(self, source: Source) -> dict | None:
        """Find the entry of an image, and reserve it."""
        images = self._by_name.get(source.path.name, [])
        for image in images:
            parts = Path(image['file_name']).parts
            if source.path.parts[-len(parts) :] == parts:
                images.remove(image)
                return image
        return None

    def read(self, image: dict, shape: tuple[int, int]) -> Detections:
        """Read the objects of an entry: boxes with score 1, and masks if all objects have one.

        Raises:
            InputError: the size of the entry differs from `shape`, (H, W).
        """
        _check_size('--ann', (image['height'], image['width']), shape)
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
    """A folder of label maps for a segmentor: the map of a/1.jpg is a/1.png or 1.png in it.

    The config's data set defines their suffix and how to read them.

    Raises:
        InputError: not a folder.
    """

    def __init__(self, folder: str | Path, predictor: Predictor) -> None:
        if not Path(folder).is_dir():
            raise InputError(f'--ann {folder} is not a folder of label maps')
        self._folder, self._predictor = Path(folder), predictor
        loaders = [step for step in predictor.pipeline if type_name(step) == 'LoadAnnotations']
        with DefaultScope.overwrite_default_scope('mmseg'):
            self._load = TRANSFORMS.build((loaders or [{'type': 'LoadAnnotations'}])[0])

    def find(self, source: Source) -> Path | None:
        """Find the label map of an image."""
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

        Raises:
            InputError: its size differs from `shape`, (H, W).
        """
        dataset = self._predictor.dataset
        info = {'seg_map_path': str(path), 'label_map': dataset.label_map, 'seg_fields': []}
        info['reduce_zero_label'] = dataset.reduce_zero_label
        labels = self._load(info)['gt_seg_map']
        _check_size(str(path), labels.shape, shape)
        return Segmentation(labels, self._predictor.names, self._predictor.palette)


def _check_size(name: str, found: tuple[int, int], shape: tuple[int, int]) -> None:
    if tuple(found) != tuple(shape):
        raise InputError(
            f'{name} gives {found[1]} x {found[0]} pixels, the image has {shape[1]} x {shape[0]}'
        )
