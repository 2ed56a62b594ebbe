"""The data sets of a run, compared with their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmca.checks.coco import CocoUse, check_coco_file
from mmca.checks.images import check_sample
from mmca.errors import InputError, warn


@dataclass(frozen=True)
class Split:
    """One data set of a run, outside of wrappers such as `RepeatDataset`.

    Attributes:
        key: its place in the config, such as 'train_dataloader.dataset'.
        dataset: as built, of any library.
        evaluated: whether predictions are compared with it.
    """

    key: str
    dataset: Any
    evaluated: bool

    @property
    def classes(self) -> list[str]:
        """Its class names; empty if it has none."""
        return list(getattr(self.dataset, 'metainfo', {}).get('classes') or ())

    @property
    def source(self) -> str:
        """Its annotation file or folder."""
        data = self.dataset
        prefixes = [path for path in getattr(data, 'data_prefix', {}).values() if path]
        return getattr(data, 'ann_file', '') or ', '.join(prefixes) or '-'


def splits_of(loops: Mapping[str, Any]) -> list[Split]:
    """List the data sets of the loops that a runner has built.

    Args:
        loops: 'train', 'val' or 'test' -> loop.

    Returns:
        The splits.
    """
    return [
        Split(key, dataset, name != 'train')
        for name, loop in loops.items()
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


def check_data(splits: list[Split], sample: bool = True) -> None:
    """Check what data sets took from their files.

    Args:
        splits: the data sets.
        sample: look into some of the image files.

    Raises:
        InputError: the first thing that would make results wrong.
    """
    for split in splits:
        if hasattr(split.dataset, '__len__') and not len(split.dataset):
            raise InputError(
                f'{split.key} is empty: {split.source} has no images, or filter_cfg and '
                'metainfo.classes leave none of them'
            )
        if _is_coco(split.dataset):
            check_coco_file(split.key, split.dataset.ann_file, split.classes, _use_of(split))
        if sample and hasattr(split.dataset, 'get_data_info'):
            check_sample(split.key, split.dataset)
    _compare_classes(splits)


def _is_coco(dataset: Any) -> bool:
    """Whether mmdet reads a data set from a COCO file of instances."""
    return (
        hasattr(dataset, 'COCOAPI')
        and str(dataset.ann_file).endswith('.json')
        and '://' not in str(dataset.ann_file)
        and 'seg' not in dataset.data_prefix  # panoptic files have another layout
    )


def _use_of(split: Split) -> CocoUse:
    steps = list(_steps(split.dataset.pipeline))
    masks = [step for step in steps if getattr(step, 'with_mask', False)]
    return CocoUse(
        masks=bool(masks),
        polygons=any(not getattr(step, 'poly2mask', True) for step in masks),
        evaluated=split.evaluated,
    )


def _steps(node: Any) -> Iterator[Any]:
    """All transforms of a pipeline, those inside of other transforms too."""
    children = getattr(node, 'transforms', None)
    for child in children if isinstance(children, (list, tuple)) else ():
        yield from _steps(child)
    yield node


def _compare_classes(splits: list[Split]) -> None:
    """Refuse data sets whose labels would mean different classes."""
    for split in splits[1:]:
        first, own = splits[0].classes, split.classes
        if first and own and first != own:
            odd = sorted(set(first) ^ set(own))
            difference = f'only one has {", ".join(odd[:8])}' if odd else 'in another order'
            raise InputError(
                f'{splits[0].key} and {split.key} have different classes: {difference}; '
                'set the same metainfo.classes for both'
            )
    if not any(split.classes for split in splits) and splits:
        warn(f'{splits[0].key} has no class names; set metainfo.classes')
