"""The data sets of a run, compared with their files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmca.checks.coco import CocoUse, check_coco_file
from mmca.checks.images import check_sample, sample
from mmca.errors import InputError, warn


@dataclass(frozen=True)
class Split:
    """One data set of a run, outside of wrappers such as `RepeatDataset`.

    Attributes:
        key: its place in the config, such as 'train_dataloader.dataset'.
        dataset: as built, of any library.
        evaluator: of the predictions on it; None in training.
    """

    key: str
    dataset: Any
    evaluator: Any = None

    @property
    def classes(self) -> list[str]:
        """Its class names; empty if it has none."""
        names = getattr(self.dataset, 'metainfo', {}).get('classes') or ()
        if isinstance(names, str):
            raise InputError(f'{self.key}: metainfo.classes is a string: set classes=({names!r},)')
        return list(names)

    @property
    def source(self) -> str:
        """Its annotation file or folder."""
        data = self.dataset
        prefixes = [path for path in getattr(data, 'data_prefix', {}).values() if path]
        return getattr(data, 'ann_file', '') or ', '.join(prefixes) or '-'


def splits_of(loops: Mapping[str, Any]) -> list[Split]:
    """List the data sets of the loops that a runner has built.

    Args:
        loops: 'train', 'val' or 'test' -> loop or None.
    """
    return [
        Split(key, dataset, getattr(loop, 'evaluator', None))
        for name, loop in loops.items()
        if loop is not None
        for key, dataset in _leaves(f'{name}_dataloader.dataset', loop.dataloader.dataset)
    ]


def _leaves(key: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(dataset, 'datasets'):
        for index, child in enumerate(dataset.datasets):
            yield from _leaves(f'{key}.datasets.{index}', child)
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(f'{key}.dataset', dataset.dataset)
    else:
        yield key, dataset


def check_data(splits: list[Split]) -> None:
    """Check data sets against their files; read some of the images.

    Raises:
        InputError: the first thing that would make results wrong.
    """
    for split in splits:
        classes = split.classes
        if hasattr(split.dataset, 'get_data_info'):
            check_sample(split.key, split.dataset)
        _check_output_names(split)
        _check_metrics(split)
        if _is_coco(split.dataset):
            check_coco_file(split.key, split.dataset.ann_file, classes, _use_of(split))
    _compare_classes(splits)
    _warn_of_shared_images(splits)


def _check_output_names(split: Split) -> None:
    """Refuse images of one name where a metric, such as mmseg's IoUMetric, names files by them."""
    metrics = getattr(split.evaluator, 'metrics', ())
    if not any(getattr(metric, 'output_dir', None) for metric in metrics):
        return
    seen: dict[str, str] = {}
    for index in range(len(split.dataset)):
        path = str(split.dataset.get_data_info(index)['img_path'])
        other = seen.setdefault(Path(path).stem, path)
        if other != path:
            raise InputError(
                f'{split.key}: the results of {other} and {path} would overwrite each other in '
                'output_dir; rename an image, or test the folders one by one'
            )


def _check_metrics(split: Split) -> None:
    """Refuse metrics whose figures would mean something else than they say.

    mmdet compares predictions with whatever images of the evaluator's file have the same ids, and
    mmseg counts pixels of any label as one class where there is only one.
    """
    evaluator = f'{split.key.partition("_")[0]}_evaluator'
    for metric in getattr(split.evaluator, 'metrics', ()):
        for info in sample(split.dataset) if getattr(metric, 'file_images', None) else ():
            listed = metric.file_images.get(info['img_id'], {}).get('file_name', 'no image')
            if os.path.basename(listed) != os.path.basename(info['img_path']):
                raise InputError(
                    f'{evaluator}.ann_file has {listed} under the id {info["img_id"]!r}, but '
                    f'{split.key} has {info["img_path"]}; set it to {split.dataset.ann_file}'
                )
        if type(metric).__name__ == 'IoUMetric' and len(split.classes) == 1:
            raise InputError(
                f'{split.key} has one class, so IoUMetric would count all pixels as it; name the '
                f"background, too: metainfo.classes=('background', {split.classes[0]!r}), "
                'num_classes=2'
            )


def _warn_of_shared_images(splits: list[Split]) -> None:
    """Warn if validation images are trained on; looks for some of the training images."""
    listed = [split for split in splits if hasattr(split.dataset, 'get_data_info')]
    training = [split.dataset for split in listed if split.evaluator is None]
    trained = {str(info.get('img_path')) for dataset in training for info in sample(dataset)}
    trained.discard('None')  # data sets without files
    for split in listed:
        if split.evaluator is None or not trained:
            continue
        infos = map(split.dataset.get_data_info, range(len(split.dataset)))
        if shared := trained & {str(info.get('img_path')) for info in infos}:
            warn(
                f'{split.key} has {len(shared)} of {len(trained)} sampled training images, such as '
                f'{min(shared)}: its figures are too high for new images'
            )


def _is_coco(dataset: Any) -> bool:
    """Whether a data set reads a local COCO file of instances as mmdet's own class does."""
    if not hasattr(dataset, 'COCOAPI') or not os.path.isfile(dataset.ann_file):
        return False
    from mmdet.datasets import CocoDataset

    # LVIS, panoptic and other data sets have different layouts and orders.
    methods = 'load_data_list', 'parse_data_info'
    return all(getattr(type(dataset), name) is getattr(CocoDataset, name) for name in methods)


def _use_of(split: Split) -> CocoUse:
    steps = list(_steps(split.dataset.pipeline))
    masks = [step for step in steps if getattr(step, 'with_mask', False)]
    evaluated = [
        kind
        for metric in getattr(split.evaluator, 'metrics', ())
        if metric.default_prefix == 'coco' and not metric.format_only
        for kind in metric.metrics
    ]
    return CocoUse(
        masks=bool(masks),
        polygons=any(not getattr(step, 'poly2mask', True) for step in masks),
        boxes_evaluated='bbox' in evaluated or 'segm' in evaluated,
        masks_evaluated='segm' in evaluated,
        labels=tuple(split.dataset.cat_ids),
        trained=split.evaluator is None,
    )


def _steps(node: Any) -> Iterator[Any]:
    """All transforms of a pipeline, nested ones too."""
    children = node if isinstance(node, (list, tuple)) else getattr(node, 'transforms', ())
    for child in children if isinstance(children, (list, tuple)) else [children]:
        yield from _steps(child)
    yield node


def _compare_classes(splits: list[Split]) -> None:
    """Refuse data sets whose labels would mean different classes."""
    for split in splits[1:]:
        first, own = splits[0].classes, split.classes
        if first and own and first != own:
            odd = sorted(set(first) ^ set(own))
            difference = f'only one has {", ".join(odd[:8])}' if odd else 'in a different order'
            raise InputError(
                f'{splits[0].key} and {split.key} have different classes: {difference}; '
                'set the same metainfo.classes for both'
            )
