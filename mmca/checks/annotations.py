"""What a data set's files say: classes, labels, images, compared with the config."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmca.config.reader import parse_options
from mmca.errors import InputError
from mmca.checks.coco_file import Use, check_entries, check_lists
from mmca.checks.data import ALL_LOADERS, EVALUATORS, Split, leaf_datasets, read
from mmca.checks.sample import check_files
from mmca.errors import warn

if TYPE_CHECKING:
    from mmengine.config import Config

SHOWN = 8  # names in a message


def check_annotations(
    cfg: Config,
    library: str,
    splits: list[Split],
    heads: dict[str, int],
    sample: bool = True,
) -> None:
    """Read all data sets; compare class names, heads and annotations.

    Args:
        cfg: the config.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        splits: from :func:`mmca.checks.data.open_splits`; their data sets are ready after.
        heads: from :func:`mmca.config.models.class_counts`.
        sample: look into some of the image files.

    Raises:
        InputError: whatever the user has to fix first.
    """
    if library == 'mmpretrain':
        _check_classification(splits, heads, sample)
        return
    for split in splits:
        if hasattr(split.dataset, 'COCOAPI'):
            _check_coco(cfg, split, heads, sample)
        else:
            _check_heads(split, heads)
            read(split, lambda infos, split=split: _check_folders(split, infos, sample))


def _check_heads(split: Split, heads: dict[str, int]) -> None:
    number = len(split.classes)
    wrong = [f'{key}={value}' for key, value in heads.items() if value != number]
    if wrong:
        options = ' '.join(f'{key}={number}' for key in heads)
        raise InputError(
            f'{split.key} has {number} classes, but {", ".join(wrong)}. '
            f'For {number} classes: --cfg-options {options}'
        )


def _check_classification(splits: list[Split], heads: dict[str, int], sample: bool) -> None:
    """Compare the classes of classification data sets with each other and with the heads."""
    for split in splits:
        read(split, lambda infos, split=split: _check_labels(split, infos, sample))
    for split in splits[1:]:
        # Labels count the class names in their order, which must be one.
        odd = sorted(set(splits[0].classes) ^ set(split.classes))
        if odd:
            raise InputError(
                f'{splits[0].key} and {split.key} have different classes: only one of them has '
                f'{_shorten(odd)}'
            )
    for split in splits:
        _check_heads(split, heads)


def _check_labels(split: Split, infos: list[dict], sample: bool) -> None:
    number = len(split.classes)
    for info in infos:
        if not 0 <= info['gt_label'] < number:
            raise InputError(
                f'{split.key}: {split.dataset.ann_file} gives {info["img_path"]} the label '
                f'{info["gt_label"]}, but {number} classes end at {number - 1}'
            )
    check_files(split, infos, sample)


def _check_coco(cfg: Config, split: Split, heads: dict[str, int], sample: bool) -> None:
    """Compare a COCO data set with its file, which is parsed once.

    mmdet's data set makes a COCO object of the file, by `self.COCOAPI`, and drops it: the one that
    it makes here looks at what it has parsed before it builds its index. It is kept where the
    evaluator would parse the same file again.
    """
    dataset = split.dataset
    source = f'{split.key}: {dataset.ann_file}'
    kept = dataset.test_mode and os.path.realpath(dataset.ann_file) in _evaluated_files(cfg)

    class Checked(dataset.COCOAPI):
        def __init__(self, path: str) -> None:
            try:
                super().__init__(path)
            except (AssertionError, ValueError, RecursionError) as error:
                if isinstance(error, InputError):
                    raise
                reason = error
                if isinstance(error, AssertionError):  # it holds a list
                    reason = "it has no list 'categories'"
                raise InputError(
                    f'{source} is no COCO annotation file: {reason}; copy or download it again'
                ) from error
            if kept:
                split.coco = self

        def createIndex(self) -> None:  # noqa: N802
            check_lists(self.dataset, source, split.classes)
            names = [category['name'] for category in self.dataset['categories']]
            _check_categories(cfg, split, heads, names)
            if not isinstance(self, COCOPanoptic):  # whose annotations are of another form
                check_entries(self.dataset, source, _use_of(cfg, split))
            super().createIndex()

    from mmdet.datasets.api_wrappers import COCOPanoptic

    dataset.COCOAPI = Checked
    try:
        read(split, lambda infos: check_files(split, infos, sample))
    finally:
        del dataset.COCOAPI
    _check_heads(split, heads)  # also where the data set reads its file by other means, as LVIS


def _evaluated_files(cfg: Config) -> set[str]:
    """The annotation files of the evaluators."""
    evaluators = [cfg.get(key) for key in EVALUATORS.values()]
    files = [e.get('ann_file') for e in evaluators if isinstance(e, dict)]
    return {os.path.realpath(file) for file in files if file and '://' not in file}


def _use_of(cfg: Config, split: Split) -> Use:
    dataset = split.dataset
    readers = [step for step in _steps(split.cfg) if step.get('with_mask')]
    return Use(
        folder=dataset.data_prefix.get('img', ''),
        classes=split.classes,
        masks=bool(readers),
        polygons=any(not step.get('poly2mask', True) for step in readers),
        evaluated=dataset.test_mode,
        boxes_alone=f'add masks, or train on boxes alone: {_boxes_alone(cfg)}',
    )


def _boxes_alone(cfg: Config) -> str:
    """The options with which a model with a mask head takes boxes alone."""
    options = []
    for key in ('mask_head', 'mask_roi_extractor'):
        if (cfg.model.get('roi_head') or {}).get(key):
            options.append(f'model.roi_head.{key}=None')
    for key, dataset in leaf_datasets(cfg, ALL_LOADERS):
        for index, step in enumerate(dataset.get('pipeline', [])):
            if step.get('with_mask'):
                options.append(f'{key}.pipeline.{index}.with_mask=False')
    for key in EVALUATORS.values():
        if 'segm' in ((cfg.get(key) or {}).get('metric') or ()):
            options.append(f'{key}.metric=bbox')
    best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best') or ''
    if 'segm' in best:
        options.append(f'default_hooks.checkpoint.save_best={best.replace("segm", "bbox")}')
    return f'--cfg-options {" ".join(options)}'


def _steps(node: object) -> Iterator[dict]:
    """All dictionaries below a pipeline: its steps, and those inside of them."""
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node
    if isinstance(node, (dict, list, tuple)):
        for child in children:
            yield from _steps(child)


def _check_categories(cfg: Config, split: Split, heads: dict[str, int], names: list[str]) -> None:
    path, classes = split.dataset.ann_file, split.classes
    absent = [name for name in classes if name not in names]
    if absent:
        raise InputError(
            f'{split.key}: {len(absent)} of the {len(classes)} class names of the config are not '
            f'among the {len(names)} categories of {path}: {_shorten(absent)}. '
            f'{_use_names(names, cfg, heads)}'
        )
    _check_heads(split, heads)
    if [name for name in names if name in classes] != classes:
        warn(
            f'{path} has the classes in another order than {split.key}.metainfo.classes: '
            "mmdet counts labels in the file's order, the names in its output will be wrong"
        )
    extra = [name for name in names if name not in classes]
    if extra:
        warn(f'{split.key}: {len(extra)} categories of {path} are not used: {_shorten(extra)}')


def _use_names(names: list[str], cfg: Config, heads: dict[str, int]) -> str:
    """How to train on the categories of a file."""
    counts = ' '.join(f'{key}={len(names)}' for key in heads)
    typed = repr(tuple(names)).replace(', ', ',')
    # Blanks, commas and digits do not survive --cfg-options, nor quotes the shell.
    if '"' in typed or parse_options([f'names={typed}'])['names'] != tuple(names):
        return (
            f"To use the file's names, set metainfo=dict(classes={tuple(names)}) for each data set "
            f'in a config, and {counts}'
        )
    keys = [key for key, _ in leaf_datasets(cfg, ALL_LOADERS)]
    metainfo = ' '.join(f'{key}.metainfo.classes="{typed}"' for key in keys)
    return f"To use the file's names: --cfg-options {metainfo} {counts}"


def _check_folders(split: Split, infos: list[dict], sample: bool) -> None:
    """A data set of folders must have images, and label maps that have no label beyond."""
    if not infos:
        folders = ', '.join(split.dataset.data_prefix.values())
        raise InputError(f'{split.key}: no images found in {folders}')
    check_files(split, infos, sample)


def _shorten(names: list[str]) -> str:
    return ', '.join(names[:SHOWN]) + (', ...' if len(names) > SHOWN else '')
