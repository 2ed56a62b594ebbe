"""Inspect a data set of images and label maps with matching file names."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mmca.config.dataset_info import DatasetInfo, Split, hold_out, split_of, walk_folders
from mmca.errors import InputError
from mmca.io import IMAGE_SUFFIXES, image_size

IGNORED = 255
SIZES_READ = 100  # images
GRAY = ('1', 'L', 'P', 'I', 'I;16')  # Pillow's modes with one channel
CLASS_LISTS = ('classes.txt', 'labels.txt', 'label_names.txt')  # one name per line


def inspect_label_maps(root: Path, classes: str | None) -> DatasetInfo | None:
    """Inspect images and label maps, None if no folders match; `classes`: names, or a file."""
    splits = _find_splits(root)
    if not splits:
        return None
    notes: list[str] = []
    if list(splits) == ['train']:
        splits = _divide(root, splits['train'], notes)
    if not {'train', 'val'} <= set(splits):
        raise InputError(
            f'{root} has {" and ".join(splits)}, but training needs train and val: rename folders'
        )
    counts = {name: _count(root, name, split) for name, split in splits.items()}
    names = _class_names(root, classes, set().union(*counts.values()), notes)
    for name, count in counts.items():
        splits[name].objects = {label: count[value] for value, label in enumerate(names)}
    train = splits['train']
    files = (root / train.images / f'{name}{train.suffixes[0]}' for name in train.names)
    sizes = [image_size(file) for _, file in zip(range(SIZES_READ), files, strict=False)]
    return DatasetInfo(root, 'labels', names, splits, sizes, notes)


def _find_splits(root: Path) -> dict[str, Split]:
    """Match each folder of label maps with the folder of images that fits best."""
    images, maps = {}, {}
    for folder, files in walk_folders(root):
        files = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
        if files:
            gray = files[0].lower().endswith('.png') and _open(folder / files[0]).mode in GRAY
            end = _common_ending(files)
            stems = {name.removesuffix(end) for name in files}
            (maps if gray else images)[folder.relative_to(root)] = stems, end
    splits: dict[str, Split] = {}
    for labels, (mapped, label_end) in maps.items():
        best, most = None, 0.0
        for folder, (stems, end) in images.items():
            # Splits may share file names.
            score = len(stems & mapped) + 0.5 * (split_of(labels) == split_of(folder))
            if stems & mapped and score > most:
                places = folder.as_posix(), sorted(stems), labels.as_posix()
                best, most = Split(*places, suffixes=(end, label_end)), score
        name = split_of(labels) or 'train'
        if best is not None and name in splits:
            raise InputError(
                f'{root / splits[name].labels} and {root / labels} both have label maps for '
                f'{name}: move one away'
            )
        if best is not None:
            splits[name] = best
    return splits


def _divide(root: Path, whole: Split, notes: list[str]) -> dict[str, Split]:
    """Divide a single folder by its lists of names, or hold out a validation split."""
    listed = {}
    for folder, files in walk_folders(root):
        for path in (folder / name for name in files if name.endswith('.txt')):
            name = split_of(Path(path.name))
            names = path.read_text(encoding='utf-8', errors='replace').split()
            if name and name not in listed and names and set(whole.names).issuperset(names):
                listing = path.relative_to(root).as_posix()
                listed[name] = replace(whole, names=names, listing=listing)
    if {'train', 'val'} <= set(listed):
        return listed
    parts = hold_out(whole.names)
    notes.append(
        f'the images are in one folder: {len(parts["val"])} of them are held out for validation'
    )
    return {
        split: replace(whole, names=names, content=''.join(f'{name}\n' for name in names))
        for split, names in parts.items()
    }


def _common_ending(names: list[str]) -> str:
    """The common end of all names from a dot or underscore on, such as '_leftImg8bit.png'."""
    if len(names) == 1:
        return Path(names[0]).suffix
    common = os.path.commonprefix([name[::-1] for name in names])[::-1]
    starts = [common.find(mark) for mark in '._' if mark in common]
    return common[min(starts) :] if starts else ''


def _count(root: Path, name: str, split: Split) -> Counter[int]:
    """Label -> number of label maps that contain it."""
    from rich.progress import track

    counts: Counter[int] = Counter()
    image_end, label_end = split.suffixes
    for stem in track(split.names, f'label maps, {name}', transient=True):
        file = root / split.labels / f'{stem}{label_end}'
        if not file.is_file():
            image = root / split.images / f'{stem}{image_end}'
            raise InputError(f'{image} has no label map {file}: add it, or remove the image')
        counts.update(np.unique(np.asarray(_open(file))).tolist())
    counts.pop(IGNORED, None)
    return counts


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except OSError as error:
        raise InputError(f'cannot read {path}: {error}') from error


def _class_names(root: Path, given: str | None, labels: set[int], notes: list[str]) -> list[str]:
    number = max(labels, default=0) + 1
    if number < 2:
        raise InputError(
            f'the label maps in {root} have no labels but 0 and {IGNORED} (ignored): write class '
            'numbers from 0 on, such as 0 for background, 1 for objects'
        )
    lists = (root / name for name in CLASS_LISTS)
    given = given or next((str(file) for file in lists if file.is_file()), None)
    if given is None:
        if number > 2 * len(labels):
            raise InputError(
                f'the label maps in {root} have labels up to {number - 1}, but only {len(labels)} '
                'different ones: write class numbers 0, 1, 2, ..., or list all names with --classes'
            )
        notes.append('the classes have no names: use --classes, or classes.txt in the folder')
        return [f'class_{value}' for value in range(number)]
    file = Path(given)
    names = file.read_text(encoding='utf-8').splitlines() if file.is_file() else given.split(',')
    names = [name.strip() for name in names if name.strip()]
    if number > len(names):
        raise InputError(
            f'{given} names {len(names)} classes, but the label maps in {root} have label '
            f'{number - 1}: name {number}, or write {IGNORED} where nothing is labeled'
        )
    return names
