"""Read ground truth to draw next to predictions."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten

import numpy as np
from mmengine.registry import TRANSFORMS, DefaultScope

from mmca.errors import InputError, warn
from mmca.inference.masks import Masks
from mmca.inference.predictor import Predictor, type_name
from mmca.inference.results import Detections, Segmentation
from mmca.io import read_coco


def next_free(ids: Iterable[int | str]) -> int:
    """An id above all numeric ids."""
    return max((key for key in ids if isinstance(key, int)), default=0) + 1


class CocoTruth:
    """Boxes and masks of a COCO file, only in categories of the model.

    An entry belongs to the first image whose path ends in its `file_name`.

    Attributes:
        category_ids: name -> id of every category in the file.
        next_id: above all numeric image ids.
    """

    def __init__(self, path: str | Path, predictor: Predictor) -> None:
        from pycocotools.coco import COCO

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco = COCO()
                self._coco.dataset = read_coco(path)
                self._coco.createIndex()
            self.category_ids = {c['name']: c['id'] for c in self._coco.dataset['categories']}
            self.next_id = next_free(self._coco.imgs)
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
            raise InputError(f'--ann {path} has no class in common with the model: {names}')
        if unknown:
            warn(f'--ann {path}: ignoring {", ".join(unknown)}, which are not classes of the model')

    def find(self, path: Path, file_name: str) -> dict | None:
        """Find the entry of an image, and reserve it."""
        images = self._by_name.get(path.name, [])
        for image in images:
            parts = Path(image['file_name']).parts
            if path.parts[-len(parts) :] == parts:
                images.remove(image)
                return image
        return None

    def read(self, image: dict) -> tuple[Detections, tuple[int, int]]:
        """Read the objects of an entry, with masks if all have one, and its (H, W)."""
        labels = {self.category_ids.get(name): i for i, name in enumerate(self._names)}
        objects = [a for a in self._coco.imgToAnns[image['id']] if a['category_id'] in labels]
        boxes = np.array([o['bbox'] for o in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = None
        if objects and all(o.get('segmentation') for o in objects):
            whole = (self._coco.annToMask(o).astype(bool) for o in objects)
            masks = Masks.of(whole, (image['height'], image['width']))
        indices = np.array([labels[o['category_id']] for o in objects], np.int64)
        found = Detections(boxes, np.ones(len(boxes), np.float32), indices, self._names, masks)
        return found, (image['height'], image['width'])


class LabelMapTruth:
    """A folder of label maps for a segmentor: the map of a/1.jpg is a/1.png or 1.png in it.

    The config's data set defines their suffix and how to read them.
    """

    def __init__(self, folder: str | Path, predictor: Predictor) -> None:
        if not Path(folder).is_dir():
            raise InputError(f'--ann {folder} is not a folder of label maps')
        self._folder, self._predictor = Path(folder), predictor
        loaders = [step for step in predictor.pipeline if type_name(step) == 'LoadAnnotations']
        with DefaultScope.overwrite_default_scope('mmseg'):
            self._load = TRANSFORMS.build((loaders or [{'type': 'LoadAnnotations'}])[0])

    def find(self, path: Path, file_name: str) -> Path | None:
        """Find the label map of an image, whose path below the folder of inputs is `file_name`."""
        dataset = self._predictor.dataset
        for name in (file_name, path.name):
            stem = name.removesuffix(dataset.img_suffix)
            stem = str(Path(name).with_suffix('')) if stem == name else stem
            found = self._folder / f'{stem}{dataset.seg_map_suffix}'
            if found.is_file():
                return found
        return None

    def read(self, path: Path) -> tuple[Segmentation, tuple[int, int]]:
        """Read a label map as `mmca test` does, and return it with its (H, W)."""
        dataset = self._predictor.dataset
        info = {'seg_map_path': str(path), 'label_map': dataset.label_map, 'seg_fields': []}
        info['reduce_zero_label'] = dataset.reduce_zero_label
        labels = self._load(info)['gt_seg_map']
        found = Segmentation(labels, self._predictor.names, self._predictor.palette)
        return found, labels.shape
