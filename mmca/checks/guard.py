"""Pipelines that name a file that they cannot read, in training and in `mmca check --images`."""

from __future__ import annotations

import os
from traceback import walk_tb
from typing import TYPE_CHECKING

from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose

from mmca.errors import InputError
from mmca.checks.images import explain
from mmca.checks.label_maps import Classes, check_labels

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset

LIST_ALL = '`mmca check CONFIG --images` lists all such files'


class GuardedPipeline(Compose):
    """A data set's pipeline; an image or annotation that cannot be read is an `InputError`.

    Other exceptions pass as they are: they may be faults of a transform.

    Args:
        transforms: those of the pipeline.
        classes: of a data set with label maps, or None.
    """

    def __init__(self, transforms: list, classes: Classes | None = None) -> None:
        super().__init__(transforms)
        self.classes = classes

    def __call__(self, data: dict) -> dict | None:
        """Run the transforms.

        Args:
            data: an entry of the data set.

        Returns:
            What the last one returns.

        Raises:
            InputError: a file cannot be read, or a label map does not fit.
        """
        info = dict(data)
        for step in self.transforms:
            try:
                data = step(data)
            except Exception as error:
                loader = _loader_in(error)
                if loader is None or isinstance(error, InputError):
                    raise
                raise InputError(f'{_describe(loader, info, error)}; {LIST_ALL}') from error
            if data is None:
                return None
            if self.classes is not None and isinstance(step, LoadAnnotations):
                check_labels(data['gt_seg_map'], info, self.classes, data['ori_shape'][::-1])
        return data


def guard(dataset: BaseDataset) -> None:
    """Give a data set a guarded pipeline.

    Args:
        dataset: changed in place; one whose pipeline is of another kind stays as it is.
    """
    if type(getattr(dataset, 'pipeline', None)) is Compose:
        dataset.pipeline = GuardedPipeline(dataset.pipeline.transforms, classes_of(dataset))


def classes_of(dataset: BaseDataset) -> Classes | None:
    """What labels mean in a data set of mmseg's; None for others."""
    names = dataset.metainfo.get('classes')
    if not names or not hasattr(dataset, 'reduce_zero_label'):
        return None
    return Classes(len(names), dataset.ignore_index, bool(dataset.reduce_zero_label))


def loading_steps(transforms: list) -> list:
    """Those of some transforms that read files.

    Args:
        transforms: of a pipeline.

    Returns:
        The transforms that are mmcv's `LoadImageFromFile` or `LoadAnnotations`, or made of them.
    """
    return [step for step in transforms if isinstance(step, (LoadImageFromFile, LoadAnnotations))]


def _loader_in(error: Exception) -> object | None:
    """The transform that was reading a file when an exception came."""
    owners = [frame.f_locals.get('self') for frame, _ in walk_tb(error.__traceback__)]
    return next(iter(loading_steps(owners)), None)


def _describe(loader: object, info: dict, error: Exception) -> str:
    path = info.get('img_path')
    if not isinstance(loader, LoadImageFromFile):
        if info.get('seg_map_path') is None:
            return (
                f'cannot read the annotations of {path}: {type(error).__name__}: '
                f'{" ".join(str(error).split())}; correct them, or take the image out'
            )
        path = info['seg_map_path']
    if not isinstance(path, (str, os.PathLike)):
        return f'cannot read {path}: {error}'
    reason = 'it cannot be decoded' if isinstance(error, AssertionError) else error
    return f'cannot read {path}: {explain(path, reason)}'
