"""Data sets of images and label maps, in folders with equal names of files."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmca.config.own_data.found import (
    SPLITS,
    Found,
    Split,
    folders,
    hold_out,
    is_image,
    split_of,
)
from mmca.errors import InputError

IGNORED = 255
SIZES_READ = 100  # images whose sizes are looked at
FLAT = ('1', 'L', 'P', 'I', 'I;16')  # modes of one channel
LISTS = ('classes.txt', 'labels.txt', 'label_names.txt')  # class names, one a line


@dataclass
class _Pair:
    """A folder of images and one of label maps, below the data set's; what the names end in."""

    images: str
    labels: str
    suffixes: tuple[str, str]


@dataclass
class _Part:
    """A split: names of its images without what they end in; where they are listed."""

    pair: _Pair
    names: list[str]
    listing: str | None = None
    content: str | None = None


def find_label_maps(root: Path, classes: str | None, config: Path) -> Found | None:
    """Look for images with label maps.

    Args:
        root: the folder.
        classes: names divided by commas, or a file with one a line; None: what the folder says.
        config: the config that will be written; new lists of images go beside it.

    Returns:
        What is there, or None.

    Raises:
        InputError: a label map cannot be read, or does not fit the classes.
    """
    pairs = _pairs(root)
    if not pairs:
        return None
    notes: list[str] = []
    if list(pairs) == ['train']:
        parts = _divided(root, pairs['train'], config, notes)
    else:
        parts = {split: _Part(pair, _all_names(root, pair)) for split, pair in pairs.items()}
    if not {'train', 'val'} <= set(parts):
        raise InputError(
            f'{root} has {" and ".join(parts)}, but training needs train and val: name the '
            'folders so'
        )
    counts = {split: _count(root, parts[split], split) for split in SPLITS if split in parts}
    names = _class_names(root, classes, set().union(*counts.values()), notes)
    splits = {
        split: Split(
            parts[split].pair.images,
            parts[split].pair.labels,
            parts[split].listing,
            len(parts[split].names),
            {name: count[value] for value, name in enumerate(names)},
            parts[split].content,
        )
        for split, count in counts.items()
    }
    first = parts['train']
    suffix = first.pair.suffixes[0]
    sizes = [
        _size(root / first.pair.images / f'{name}{suffix}') for name in first.names[:SIZES_READ]
    ]
    return Found(root, 'labels', names, splits, sizes, first.pair.suffixes, notes)


def _pairs(root: Path) -> dict[str, _Pair]:
    """Split -> the folders that hold it."""
    images, maps = {}, {}
    for folder, names in folders(root):
        names = [name for name in names if is_image(name)]
        if names:
            flat = names[0].lower().endswith('.png') and _is_flat(folder / names[0])
            (maps if flat else images)[folder.relative_to(root)] = names
    found: dict[str, _Pair] = {}
    for labels, label_names in maps.items():
        best, most = None, 0
        for folder, names in images.items():
            suffixes = _ending(names), _ending(label_names)
            common = {name.removesuffix(suffixes[0]) for name in names}
            common &= {name.removesuffix(suffixes[1]) for name in label_names}
            # The same names may occur in every split.
            score = len(common) + 0.5 * (split_of(labels) == split_of(folder))
            if common and score > most:
                best, most = _Pair(folder.as_posix(), labels.as_posix(), suffixes), score
        split = split_of(labels) or 'train'
        if best is None:
            continue
        if split in found:
            raise InputError(
                f'{root / found[split].labels} and {root / labels} both hold label maps for '
                f'{split}: move one away'
            )
        found[split] = best
    return found


def _divided(root: Path, pair: _Pair, config: Path, notes: list[str]) -> dict[str, _Part]:
    """The splits of a single folder: by the lists that are there, or held out by chance."""
    names = _all_names(root, pair)
    listed = _lists(root, set(names))
    if {'train', 'val'} <= set(listed):
        return {split: _Part(pair, *found) for split, found in listed.items()}
    parts = {}
    for split, chosen in zip(('train', 'val'), hold_out(names), strict=True):
        listing = str(config.with_name(f'{config.stem}_{split}.txt').resolve())
        parts[split] = _Part(pair, chosen, listing, ''.join(f'{name}\n' for name in chosen))
    notes.append(
        f'there is one folder of images: {len(parts["val"].names)} of them are held out for '
        'validation'
    )
    return parts


def _all_names(root: Path, pair: _Pair) -> list[str]:
    """The names of all images of a folder, each of which must have a label map."""
    names, mapped = (
        {name.removesuffix(suffix) for name in os.listdir(root / folder) if name.endswith(suffix)}
        for folder, suffix in zip((pair.images, pair.labels), pair.suffixes, strict=True)
    )
    if bare := sorted(names - mapped):
        raise InputError(
            f'{len(bare)} of {len(names)} images in {root / pair.images} have no label map in '
            f'{root / pair.labels}, such as {bare[0]}{pair.suffixes[0]}; put them there, or take '
            'the images away'
        )
    return sorted(names)


def _is_flat(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode in FLAT
    except OSError as error:
        raise InputError(f'cannot read {path}: {error}') from error


def _ending(names: list[str]) -> str:
    """What all names end in, from a dot or an underscore on.

    Example:
        >>> _ending(['a_leftImg8bit.png', 'b_leftImg8bit.png']), _ending(['a.png', 'ba.png'])
        ('_leftImg8bit.png', '.png')
    """
    common = os.path.commonprefix([name[::-1] for name in names])[::-1]
    if len(names) == 1:
        common = Path(names[0]).suffix
    starts = [common.find(mark) for mark in '._' if mark in common]
    return common[min(starts) :] if starts else ''


def _lists(root: Path, known: set[str]) -> dict[str, tuple[list[str], str]]:
    """Split -> names of images that a file lists, and the file below `root`."""
    found = {}
    for folder, names in folders(root):
        for name in names:
            split = split_of(Path(name))
            if not name.endswith('.txt') or split is None or split in found:
                continue
            listed = (folder / name).read_text(encoding='utf-8', errors='replace').split()
            if listed and known.issuperset(listed):
                found[split] = listed, (folder / name).relative_to(root).as_posix()
    return found


def _count(root: Path, part: _Part, split: str) -> Counter:
    """Label -> number of label maps that have it."""
    from rich.progress import track

    counts: Counter = Counter()
    for name in track(part.names, f'label maps, {split}', transient=True):
        file = root / part.pair.labels / f'{name}{part.pair.suffixes[1]}'
        try:
            with Image.open(file) as image:
                values = np.unique(np.asarray(image))
        except OSError as error:
            raise InputError(f'cannot read {file}: {error}') from error
        counts.update(int(value) for value in values)
    counts.pop(IGNORED, None)
    return counts


def _class_names(root: Path, given: str | None, labels: set[int], notes: list[str]) -> list[str]:
    if len(labels) < 2:
        raise InputError(
            f'the label maps in {root} have no labels but {sorted(labels)} and {IGNORED}, which '
            'is ignored: write class numbers from 0 on, such as 0 for background and 1 for objects'
        )
    largest = max(labels)
    if given is None:
        file = next((root / name for name in LISTS if (root / name).is_file()), None)
        given = None if file is None else str(file)
    if given is None:
        if largest + 1 > 2 * len(labels):
            raise InputError(
                f'the label maps in {root} have labels up to {largest}, but only {len(labels)} '
                'different ones: write class numbers 0, 1, 2, ..., or tell all --classes'
            )
        notes.append('the classes have no names: tell them with --classes, or in classes.txt')
        return [f'class_{value}' for value in range(largest + 1)]
    if Path(given).is_file():
        names = Path(given).read_text(encoding='utf-8').splitlines()
    else:
        names = given.split(',')
    names = [name.strip() for name in names if name.strip()]
    if largest >= len(names):
        raise InputError(
            f'{given} names {len(names)} classes, but the label maps in {root} have label '
            f'{largest}: name {largest + 1}, or write {IGNORED} where nothing is labeled'
        )
    return names


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
