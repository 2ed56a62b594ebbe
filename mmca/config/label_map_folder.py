"""Inspect a folder with images and label maps."""

from __future__ import annotations

import csv
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from mmca.config.folders import (
    DatasetInfo,
    Folders,
    Pairs,
    Split,
    hold_out,
    median_size,
    split_of,
)
from mmca.errors import InputError
from mmca.io import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from PIL import Image

SAMPLES = 8  # images of a folder whose values are counted
MAX_VALUES = 100  # distinct values in a label map; photographs have more
IGNORED = 255  # label
UTF_16 = (b'\xff\xfe', b'\xfe\xff')  # byte order marks
CONVERT = 'see "Color maps" in docs/own_data.md to replace values'
# One name per line; or Roboflow's table, with the same content in each split.
CLASS_LISTS = (
    *('classes.txt', 'labels.txt', 'label_names.txt', 'class_names.txt'),
    'train/_classes.csv',
)
INSTANCES = 'SegmentationObject'  # VOC's folder of object numbers, beside the classes


class _Group(NamedTuple):
    """Image files in or below a folder with one suffix, all in color or all of one channel."""

    folder: Path
    suffix: str
    names: list[str]  # relative to the folder
    values: float  # median number of distinct values in an image; infinite in color


def _group_images(root: Path, folders: Folders) -> Iterator[_Group]:
    import numpy as np

    found: dict[tuple[Path, str, bool], list[Path]] = {}
    for folder, files in folders.items():
        for file in (folder / name for name in _images(files)):
            gray = len(_open(root / file, load=False).getbands()) == 1  # or with a palette
            for place in file.parents:  # mmseg lists subfolders, too
                if split_of(place) == split_of(folder):
                    found.setdefault((place, file.suffix, gray), []).append(file)
    for (place, suffix, gray), paths in found.items():
        parents = {path.parent for path in paths}
        if len(parents) == 1 and place not in parents:
            continue  # as the group of the only subfolder
        some = paths[:: -(-len(paths) // SAMPLES)] if gray else ()
        values = [len(np.unique(_open(root / path))) for path in some]
        names = [path.relative_to(place).as_posix() for path in paths]
        yield _Group(place, suffix, names, median(values) if gray else math.inf)


def _images(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]


def _open(path: Path, load: bool = True) -> Image.Image:
    from PIL import Image

    try:
        image = Image.open(path)
        if load:
            image.load()
    except OSError as error:
        raise InputError(f'cannot read {path}: {error}') from error
    return image


def match_folders(root: Path, folders: Folders) -> dict[str, Split]:
    """Match each folder of label maps with the folder of images that fits best.

    Label maps have one channel, and few values: fewer than their images, if those are gray.
    """
    groups = list(_group_images(root, folders))
    found: dict[str, dict[tuple[Path, Path], Pairs]] = {}
    for images, maps in permutations(groups, 2):
        own = {split_of(maps.folder), split_of(images.folder)} - {None}
        if maps.values > MAX_VALUES or maps.values >= images.values or len(own) > 1:
            continue
        if INSTANCES in (images.folder.name, maps.folder.name):
            continue
        endings, stems = max(_matches(images, maps), key=lambda match: len(match[1]))
        if stems:
            matches = found.setdefault(own.pop() if own else 'train', {})
            matches.setdefault((images.folder, maps.folder), {})[endings] = sorted(stems)
    if not found:
        _refuse_several_kinds(root, groups)
        _refuse_color_maps(root, groups)
    return {name: _best_match(root, folders, name, found[name]) for name in found}


def _matches(images: _Group, maps: _Group) -> Iterator[tuple[tuple[str, str], set[str]]]:
    """Endings of two groups, and the names before them that both have."""
    endings = ((group.suffix, _common_ending(group.names)) for group in (images, maps))
    for own, other in product(*endings):
        stems = {name.removesuffix(own) for name in images.names}
        yield (own, other), stems & {name.removesuffix(other) for name in maps.names}


def _common_ending(names: list[str]) -> str:
    """The common end of all names from a dot or underscore on, such as '_leftImg8bit.png'."""
    if len(names) == 1:
        return Path(names[0]).suffix
    common = os.path.commonprefix([name[::-1] for name in names])[::-1]
    return common[re.search('[._]|$', common).start() :]


def _best_match(
    root: Path, folders: Folders, name: str, matches: dict[tuple[Path, Path], Pairs]
) -> Split:
    """The split of the two folders with most pairs, of those with its name in a tie."""

    def rank(match: tuple[Path, Path]) -> tuple[int, int]:
        stems = set().union(*matches[match].values())
        return len(stems), [*map(split_of, match)].count(name)

    (images, maps), *others = sorted(matches, key=rank, reverse=True)
    for _, other in others:
        if maps not in (other, *other.parents):
            raise InputError(
                f'{root / maps} and {root / other} have label maps for {name}: move or delete one, '
                'or merge them into one folder'
            )
    split = Split(images.as_posix(), [], maps.as_posix(), matches[images, maps])
    if any(ending.lower().endswith(('.jpg', '.jpeg')) for _, ending in split.pairs):
        raise InputError(f'{root / maps} has JPEG label maps, but JPEG changes labels: use PNG')
    used = {*split.files(0), *(split.files(1) if images == maps else ())}
    split.bare = [
        file
        for folder, names in folders.items()
        if images in (folder, *folder.parents) and split_of(folder) == split_of(images)
        if images == maps or maps not in (folder, *folder.parents) or maps in images.parents
        for file in ((folder / name).relative_to(images).as_posix() for name in _images(names))
        if file not in used
    ]
    return split


def _refuse_several_kinds(root: Path, groups: list[_Group]) -> None:
    """Raise an InputError if an image has several label maps in one folder."""
    for images, maps in permutations(sorted(groups, key=lambda group: -len(group.names)), 2):
        stem = images.names[0].removesuffix(_common_ending(images.names))
        kinds = [name for name in maps.names if re.match(f'{re.escape(stem)}[._-]', name)]
        if len(kinds) > 1 and math.isfinite(maps.values) and maps.folder != images.folder:
            raise InputError(
                f'{root / maps.folder} has several label maps for each image, such as '
                f'{kinds[0]} and {kinds[1]}: keep one kind, and move or delete the others'
            )


def _refuse_color_maps(root: Path, groups: list[_Group]) -> None:
    """Raise an InputError if images of few colors share names with photographs."""
    for images, maps in permutations(groups, 2):
        first = [_open(root / group.folder / group.names[0]) for group in (images, maps)]
        many, few = (image.convert('RGB').getcolors(MAX_VALUES) for image in first)
        if few and not many and any(stems for _, stems in _matches(images, maps)):
            raise InputError(
                f'{root / maps.folder} has images with the colors '
                f'{", ".join(str(color) for _, color in few[:4])}, ..., but a label map has one '
                'channel of class numbers; see "Color maps" in docs/own_data.md to convert them'
            )


def inspect_label_maps(
    root: Path, folders: Folders, splits: dict[str, Split], classes: str | None
) -> DatasetInfo:
    notes: list[str] = []
    if 'val' not in splits and 'train' in splits:
        splits |= _divide(root, folders, splits['train'], notes)
    if not {'train', 'val'} <= set(splits):
        raise InputError(
            f'{root} has {" and ".join(splits)}, but training needs train and val: rename folders'
        )
    counts, sizes = {}, []
    for name, split in splits.items():
        split.names, place = split.files(0), Path(split.images)
        below = [files for folder, files in folders.items() if place in (folder, *folder.parents)]
        split.whole = all(  # as mmseg lists a folder
            len(stems) == sum(file.endswith(end) for files in below for file in files)
            for (end, _), stems in split.pairs.items()
        )
        if split.bare:
            notes.append(
                f'{len(split.bare)} images of {name} without a label map are left out, such as '
                f'{split.bare[0]}'
            )
        counts[name] = _count(root, name, split, sizes)
    labels = set().union(*counts.values())
    names, first = _class_names(root, classes, labels, notes)
    for name, count in counts.items():
        splits[name].objects = {label: count[value] for value, label in enumerate(names, first)}
    return DatasetInfo(root, 'labels', names, splits, median_size(sizes), notes, first == 1)


def _divide(root: Path, folders: Folders, whole: Split, notes: list[str]) -> dict[str, Split]:
    """Divide a single folder by its lists of names, or hold out a validation split."""
    listed = {}
    bare = {Path(file).stem: file for file in whole.bare}
    known = {stem for stems in whole.pairs.values() for stem in stems}
    for path in (folder / file for folder, files in folders.items() for file in files):
        name = split_of(Path(path.name))
        if path.suffix == '.txt' and name and name not in listed:
            words = _read_text(root / path).split()
            names = {word if word in known else Path(word).stem for word in words}
            if names and names <= known | bare.keys():
                listed[name] = _part(whole, names, [bare[stem] for stem in names & bare.keys()])
    if {'train', 'val'} <= set(listed):
        return listed
    parts = hold_out(sorted(known))
    notes.append(
        f'the images are in one folder: {len(parts["val"])} of them are held out for validation'
    )
    return {
        name: _part(whole, stems, whole.bare * (name == 'train')) for name, stems in parts.items()
    }


def _part(whole: Split, stems: Iterable[str], bare: list[str]) -> Split:
    pairs = {ends: [*filter(set(stems).__contains__, own)] for ends, own in whole.pairs.items()}
    pairs = {ends: own for ends, own in pairs.items() if own}
    return replace(whole, pairs=pairs, bare=bare, lists={})


def _count(root: Path, name: str, split: Split, sizes: list[tuple[int, int]]) -> Counter[int]:
    """Label -> number of label maps that contain it; appends the label maps' sizes."""
    import numpy as np
    from rich.progress import track

    counts: Counter[int] = Counter()
    for file in track(split.files(1), f'label maps, {name}', transient=True):
        labels = np.asarray(_open(root / split.labels / file))
        sizes.append(labels.shape[:2])
        counts.update(np.unique(labels).tolist())
    counts.pop(IGNORED, None)
    return counts


def _read_text(path: Path) -> str:
    """Read text of any Windows or Unix editor."""
    content = path.read_bytes()
    try:
        return content.decode('utf-16' if content[:2] in UTF_16 else 'utf-8-sig')
    except UnicodeDecodeError:
        return content.decode('cp1252', errors='replace')


def _read_names(path: Path) -> list[str]:
    lines = _read_text(path).splitlines()
    if path.suffix == '.csv':  # headings, then the number and name of each class
        return [row[-1] for row in csv.reader(lines, skipinitialspace=True) if row][1:]
    return lines


def _class_names(
    root: Path, given: str | None, labels: set[int], notes: list[str]
) -> tuple[list[str], int]:
    """Class names, and the label of the first: 1 if no label map has 0."""
    last = max(labels, default=0)
    if last < 1:
        raise InputError(
            f'the label maps in {root} contain only 0 and {IGNORED} (ignored): write class '
            f'numbers starting at 0, such as 0 for background, 1 for objects; {CONVERT}'
        )
    lists = (root / name for name in CLASS_LISTS)
    given = given or next((str(file) for file in lists if file.is_file()), None)
    names, first = [], int(0 not in labels and last > 1)
    if given is None:
        if last >= 2 * len(labels):
            raise InputError(
                f'the label maps in {root} have {len(labels)} distinct labels, up to {last}: write '
                f'class numbers 0, 1, 2, ..., or list all names with --classes; {CONVERT}'
            )
        notes.append('the classes have no names: use --classes, or put classes.txt in the folder')
        names = [f'class_{value}' for value in range(first, last + 1)]
    else:
        file = Path(given)
        names = _read_names(file) if file.is_file() else given.split(',')
        names = [*filter(None, map(str.strip, names))]
        first = 0 if len(names) > last else first
        if len(names) + first <= last:
            option = shlex.join(['--classes', ','.join(['background', *names])])
            hint = f'; if 0 is the background, use {option}' if len(names) == last else ''
            raise InputError(
                f'{given} lists {len(names)} classes, but the label maps in {root} have label '
                f'{last}: list {last + 1}, or write {IGNORED} for unlabeled pixels{hint}'
                + (f'; {CONVERT}' if len(labels) <= len(names) else '')
            )
    if first:
        notes.append('no label map has 0: classes begin at 1 (reduce_zero_label=True)')
    return names, first
