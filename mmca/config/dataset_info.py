"""Inspect the folder of a data set: format, splits, classes, image sizes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from mmca.errors import InputError

SPLITS = ('train', 'val', 'test')
MAX_DEPTH = 4  # subfolders below the root
HELD_OUT = 0.2  # share of the images, where the data set has no validation split
_SPLIT = re.compile(r'(?<![a-z])(train|val|test|dev)(ing|id|idation)?(annot|mask)?s?(?![a-z])')


@dataclass
class Split:
    """One split of a data set; paths are relative to the data set's root."""

    images: str  # folder
    names: list[str]  # of image files; without the common ending if there are label maps
    labels: str | None = None  # folder of label maps
    suffixes: tuple[str, str] | None = None  # common endings of images and label maps
    listing: str | None = None  # file that lists the images; None: the whole folder, or `content`
    content: str | None = None  # listing of a held-out split, to be written
    objects: dict[str, int] = field(default_factory=dict)  # class -> objects, or label maps with it


@dataclass
class DatasetInfo:
    """A data set."""

    root: Path
    task: str  # 'masks', 'boxes' or 'labels' (label maps)
    classes: list[str]  # names in label order
    splits: dict[str, Split]  # 'train' and 'val', optionally 'test'
    sizes: list[tuple[int, int]]  # (width, height) of training images, in pixels
    notes: list[str] = field(default_factory=list)  # remarks for the user

    @property
    def size(self) -> tuple[int, int]:
        """Median longer side and median shorter side, in pixels."""
        return int(median(map(max, self.sizes))), int(median(map(min, self.sizes)))


def inspect_folder(
    root: str | Path, train: str | None = None, val: str | None = None, classes: str | None = None
) -> DatasetInfo:
    """Inspect a folder with COCO JSON files and images, or with images and label maps.

    Args:
        root: the folder.
        train: COCO file to train on; found by its name by default.
        val: COCO file to validate on; found by its name by default.
        classes: class names of label maps, separated by commas, or a file with one name per line.

    Returns:
        The data set; a fifth of the images is held out if it has no validation split.

    Raises:
        InputError: unknown format, unreadable files, ambiguous or missing splits.
    """
    from mmca.config.coco_info import inspect_coco
    from mmca.config.label_map_info import inspect_label_maps

    root = Path(root)
    named = {split: file for split, file in (('train', train), ('val', val)) if file}
    info = inspect_coco(root, named) or inspect_label_maps(root, classes)
    if info is None:
        raise InputError(
            f'{root} has neither a COCO file nor images with label maps of the same names; '
            'docs/own_data.md shows how to convert YOLO, VOC and labelme files'
        )
    info.splits = {name: info.splits[name] for name in SPLITS if name in info.splits}
    return info


def split_of(path: Path) -> str | None:
    """Infer the split from the names in a path; the innermost name wins.

    Example:
        >>> split_of(Path('annotations/instances_val2017.json')), split_of(Path('images/training'))
        ('val', 'train')
        >>> split_of(Path('trainannot')), split_of(Path('pictures'))
        ('train', None)
    """
    for part in reversed(path.parts):
        if found := _SPLIT.search(part.lower()):
            return found[1].replace('dev', 'val')
    return None


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each visible folder, starting with the root, and its sorted file names."""
    if not root.is_dir():
        raise InputError(f'no such folder: {root}')
    for place, below, files in os.walk(root, followlinks=True):
        depth = len(Path(place).relative_to(root).parts)
        below[:] = sorted(name for name in below if not name.startswith('.') and depth < MAX_DEPTH)
        yield Path(place), sorted(name for name in files if not name.startswith('.'))


def hold_out(items: list) -> dict[str, list]:
    """Divide images into 'train' and 'val', the same way every time, in the given order."""
    if len(items) < 2:
        raise InputError(f'{len(items)} image is too few to hold some out for validation')
    chosen = set(Random(0).sample(range(len(items)), max(1, round(HELD_OUT * len(items)))))
    parts = {'train': [], 'val': []}
    for index, item in enumerate(items):
        parts['val' if index in chosen else 'train'].append(item)
    return parts
