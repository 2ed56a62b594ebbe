"""What a data set's files say: classes, labels, images, compared with the config."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mmca.cli.config_file import parse_options
from mmca.cli.preflight.data import ALL_LOADERS, Split, leaf_datasets, read
from mmca.cli.preflight.warn import warn
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

MAX_SAMPLES = 64  # files looked at per data set
SHOWN = 8  # names in a message


def check_annotations(
    cfg: Config, library: str, splits: list[Split], heads: dict[str, int]
) -> None:
    """Read all data sets; compare class names, heads and annotations.

    Args:
        cfg: the config.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        splits: from :func:`mmca.cli.preflight.data.open_splits`; their data sets are ready after.
        heads: from :func:`mmca.cli.preflight.model.class_counts`.

    Raises:
        InputError: whatever the user has to fix first.
    """
    if library == 'mmpretrain':
        _check_classification(splits, heads)
        return
    for split in splits:
        if hasattr(split.dataset, 'COCOAPI'):
            _check_coco(cfg, split, heads)
        else:
            _check_heads(split, heads)
            read(split, lambda infos, split=split: _check_images(split, infos))


def _check_heads(split: Split, heads: dict[str, int]) -> None:
    number = len(split.classes)
    wrong = [f'{key}={value}' for key, value in heads.items() if value != number]
    if wrong:
        options = ' '.join(f'{key}={number}' for key in heads)
        raise InputError(
            f'{split.key} has {number} classes, but {", ".join(wrong)}. '
            f'For {number} classes: --cfg-options {options}'
        )


def _check_classification(splits: list[Split], heads: dict[str, int]) -> None:
    """Compare the classes of classification data sets with each other and with the heads."""
    for split in splits:
        read(split, lambda infos, split=split: _check_labels(split, infos))
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


def _check_labels(split: Split, infos: list[dict]) -> None:
    number = len(split.classes)
    for info in infos:
        if not 0 <= info['gt_label'] < number:
            raise InputError(
                f'{split.key}: {split.dataset.ann_file} gives {info["img_path"]} the label '
                f'{info["gt_label"]}, but {number} classes end at {number - 1}'
            )
    _check_listed_images(split, infos)


def _check_listed_images(split: Split, infos: list[dict]) -> None:
    for info in _sample(infos):
        if not os.path.exists(info['img_path']):
            raise InputError(
                f'{split.key}: {split.dataset.ann_file} lists an image that is not there: '
                f'{info["img_path"]}'
            )


def _check_coco(cfg: Config, split: Split, heads: dict[str, int]) -> None:
    """Compare a COCO data set with its file, which is parsed once.

    mmdet's data set makes a COCO object of the file, by `self.COCOAPI`, and drops it: the one that
    it makes is looked at first.
    """
    dataset = split.dataset
    make = dataset.COCOAPI

    def make_and_check(path: str) -> Any:
        try:
            coco = make(path)
            content = coco.dataset
            lacking = [key for key in ('categories', 'images') if key not in content]
            names = [] if lacking else [category['name'] for category in content['categories']]
        except AssertionError:  # it holds a list
            lacking = ['categories']
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f'{split.key}: {path} is no COCO annotation file: {error}') from error
        if lacking:
            raise InputError(
                f'{split.key}: {path} is no COCO annotation file: it has no list {lacking[0]!r}'
            )
        _check_categories(cfg, split, heads, names)
        if not content['images']:
            raise InputError(f'{split.key}: {path} lists no images')
        return coco

    dataset.COCOAPI = make_and_check
    try:
        read(split, lambda infos: _check_listed_images(split, infos))
    finally:
        del dataset.COCOAPI
    _check_heads(split, heads)  # also where the data set reads its file by other means, as LVIS


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


def _check_images(split: Split, infos: list[dict]) -> None:
    """A data set of folders must have images, and label maps that have no label beyond."""
    if not infos:
        folders = ', '.join(split.dataset.data_prefix.values())
        raise InputError(f'{split.key}: no images found in {folders}')
    if 'seg_map_path' in infos[0]:
        _check_label_maps(split, infos)


def _check_label_maps(split: Split, infos: list[dict]) -> None:
    """Read some label maps as training does and look for labels that no class has."""
    import numpy as np
    from mmengine.registry import TRANSFORMS

    steps = [
        step
        for step in split.cfg.get('pipeline', [])
        if str(step.get('type')).split('.')[-1] == 'LoadAnnotations'
    ]
    if not steps:
        return
    load, number = TRANSFORMS.build(steps[0]), len(split.classes)
    for info in _sample(infos):
        path = info['seg_map_path']
        if not os.path.exists(path):
            raise InputError(f'{split.key}: no label map {path} for {info["img_path"]}')
        try:
            labels = load({**info, 'seg_fields': []})['gt_seg_map']
        except OSError as error:
            raise InputError(f'{split.key}: cannot read {path}: {error}') from error
        if labels.ndim != 2:
            raise InputError(
                f'{split.key}: {path} is a color image; a label map has one class number a pixel'
            )
        found = np.unique(labels)
        beyond = found[(found >= number) & (found != split.dataset.ignore_index)]
        if beyond.size:
            rule = 'after' if split.dataset.reduce_zero_label else 'without'
            raise InputError(
                f'{split.key}: {path} has label {beyond[0]} ({rule} reduce_zero_label), '
                f'but {number} classes end at {number - 1}; '
                f'set metainfo.classes and num_classes, or {split.key}.reduce_zero_label'
            )


def _sample(items: list[dict]) -> list[dict]:
    count = min(len(items), MAX_SAMPLES)
    return [items[index * (len(items) - 1) // max(count - 1, 1)] for index in range(count)]


def _shorten(names: list[str]) -> str:
    return ', '.join(names[:SHOWN]) + (', ...' if len(names) > SHOWN else '')
