"""COCO data sets and metrics that match classes by name, not by position or id.

mmdet numbers labels in the order of a file's categories, so two files that list the same categories
differently disagree. `mmca.Runner` builds these classes wherever a config has mmdet's, and derives
from them what a config has derived from mmdet's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import numpy as np
from mmdet.datasets import api_wrappers
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.fileio import get_local_path

from mmca.checks.coco import CocoUse, examine
from mmca.engine.dataset import build_dataset
from mmca.errors import InputError
from mmca.io import COCO_FIELDS, check_coco_fields, read_coco


class COCO(api_wrappers.COCO):
    """A COCO file with its annotations renumbered from 1.

    pycocotools takes the id 0 for "no match", and fails when it evaluates ids that are text.
    """

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset = read_coco(annotation_file)
            self.createIndex()

    def createIndex(self) -> None:  # noqa: N802
        """Number the annotations and index the file."""
        for number, annotation in enumerate(self.dataset.get('annotations') or (), 1):
            annotation['id'] = number
        with redirect_stdout(io.StringIO()):  # 'creating index...'
            super().createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def loadCats(self, ids: Any = ()) -> list[dict]:  # noqa: N802
        """The entries of categories; text is one id, not a list of letters."""
        return super().loadCats([ids] if isinstance(ids, str) else ids)

    def get_cat_ids(
        self, cat_names: Sequence[str] = (), sup_names: Sequence[str] = (), cat_ids: Sequence = ()
    ) -> list:
        """The ids of categories, in the order of `cat_names`; None where the file lacks a name."""
        ids = super().get_cat_ids(cat_names, sup_names, cat_ids)
        known = {self.cats[key]['name']: key for key in ids}
        return [known.get(name) for name in cat_names] or ids


def by_names(kind: type) -> Callable:
    """A builder for a data set or metric class, with labels in the order of its class names.

    Args:
        kind: any class; mmdet's `CocoDataset` and `CocoMetric` and their subclasses change.
    """
    if getattr(kind, 'COCOAPI', None) is api_wrappers.COCO:
        # Of the object, not of the class, which loading processes import.
        return partial(build_dataset, kind, _explain, {'COCOAPI': COCO})
    if kind is MMDetCocoMetric:
        return CocoMetric
    if issubclass(kind, MMDetCocoMetric) and not issubclass(kind, CocoMetric):
        # The subclass's own methods come first.
        return type(kind.__name__, (kind, CocoMetric), {})
    return kind


def _explain(dataset: Any, error: Exception) -> None:
    """Raise an InputError if the file of a data set that cannot be built is the reason."""
    path = getattr(dataset, 'ann_file', '')
    if not os.path.isfile(path):
        return
    content = read_coco(path)
    try:
        check_coco_fields(content)
        use = CocoUse(trained=not dataset.test_mode)
        found = examine(content, dataset.metainfo.get('classes') or (), use)
    except InputError as fault:
        raise InputError(f'{path}: {fault}') from fault
    if not dataset.data_list:
        counts = [f'{len(content.get(key) or ())} {key}' for key in COCO_FIELDS]
        reasons = '; '.join([f'{path} has {", ".join(counts)}', *found])
        raise InputError(f'no image is left: {reasons}; filter_cfg drops images, too')


class CocoMetric(MMDetCocoMetric):
    """mmdet's metric, whose label i is the class `dataset_meta['classes'][i]`.

    It takes the arguments of mmdet's metric; `sort_categories` has no effect.
    """

    def __init__(
        self, ann_file: str | None = None, *args: Any, sort_categories: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(None, *args, **kwargs)
        self.iou_thrs = np.atleast_1d(self.iou_thrs)  # pycocotools compares it with numbers
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._coco_api = COCO(path)  # as in mmdet 3.5.1, which reads the file here, too

    @property
    def file_images(self) -> dict:
        """Id -> entry of the images in `ann_file`; empty without one."""
        return self._coco_api.imgs if self._coco_api else {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Evaluate predictions; leave out classes that the file lacks.

        pycocotools sorts classes by id, so labels become positions among the sorted ids. Results
        on disk keep the file's category ids.
        """
        if isinstance(self._coco_api, COCO):
            ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta['classes'])
            self.cat_ids = sorted(key for key in ids if key is not None)
            places = np.array([-1 if key is None else self.cat_ids.index(key) for key in ids])
            results = [(truth, _renumber(found, places)) for truth, found in results]
        return super().compute_metrics(results)


def _renumber(found: dict, places: np.ndarray) -> dict:
    """Map label i of an image's predictions to `places[i]`; drop negative places."""
    labels = places[found['labels']]
    keep = np.flatnonzero(labels >= 0)
    rows = {
        key: [found[key][i] for i in keep] if isinstance(found[key], list) else found[key][keep]
        for key in ('bboxes', 'scores', 'masks', 'mask_scores')
        if key in found
    }
    return {**found, **rows, 'labels': labels[keep]}
