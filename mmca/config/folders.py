"""Facts about a data set in a folder, shared by all formats."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from mmca.errors import InputError

SPLITS = ('train', 'val', 'test')
MAX_DEPTH = 4  # subfolders below the root
HELD_OUT = 0.2  # share of the images, where the data set has no validation split
_SPLIT = re.compile(r'(?<![a-z])(train|val|test|dev)(ing|id|idation)?(annot|mask)?s?(?![a-z])')

# Endings of images and of label maps, such as '_leftImg8bit.png' -> the names before them.
Pairs = dict[tuple[str, str], list[str]]


@dataclass
class Split:
    """One split of a data set; paths are relative to the data set's root."""

    images: str  # folder
    names: list[str]  # of image files
    labels: str | None = None  # folder of label maps
    pairs: Pairs = field(default_factory=dict)  # images with a label map
    bare: list[str] = field(default_factory=list)  # image files without a label map
    whole: bool = True  # whether `pairs` has all images in the folder with these endings
    lists: dict[tuple[str, str], str] = field(default_factory=dict)  # otherwise endings -> file
    listing: str | None = None  # file that lists the images; None: the whole folder, or `content`
    content: str | None = None  # listing to write, for a held-out split
    objects: dict[str, int] = field(default_factory=dict)  # class -> objects, or label maps with it

    def files(self, kind: int) -> list[str]:
        """Paired files: images (0) or label maps (1)."""
        return [stem + ends[kind] for ends, stems in self.pairs.items() for stem in stems]


@dataclass
class DatasetInfo:
    """A data set."""

    root: Path
    task: str  # 'masks', 'boxes' or 'labels' (label maps)
    classes: list[str]  # names in label order
    splits: dict[str, Split]  # 'train' and 'val', optionally 'test'
    size: tuple[int, int]  # median longer and shorter side of training images, in pixels
    notes: list[str]  # remarks for the user
    reduce_zero_label: bool = False  # whether class numbers begin at 1


Folders = dict[Path, list[str]]  # visible folders, relative to the root -> sorted file names


def list_files(root: Path) -> Folders:
    if not root.is_dir():
        raise InputError(f'no such folder: {root}')
    folders = {}
    for place, below, files in os.walk(root, followlinks=True):
        folder = Path(place).relative_to(root)
        deep = len(folder.parts) >= MAX_DEPTH
        below[:] = [] if deep else sorted(name for name in below if not name.startswith('.'))
        folders[folder] = sorted(name for name in files if not name.startswith('.'))
    return folders


def split_of(path: Path) -> str | None:
    """Infer the split from the names in a path; the innermost name wins."""
    for part in reversed(path.parts):
        if found := _SPLIT.search(part.lower()):
            return found[1].replace('dev', 'val')
    return None


def hold_out(items: list) -> dict[str, list]:
    """Divide images into 'train' and 'val', reproducibly and in order."""
    if len(items) < 2:
        raise InputError('a single image cannot be split into training and validation')
    number = max(1, round(HELD_OUT * len(items)))
    chosen = set(Random(0).sample(range(len(items)), number))
    return {
        'train': [item for index, item in enumerate(items) if index not in chosen],
        'val': [items[index] for index in sorted(chosen)],
    }


def median_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    return int(median(map(max, sizes))), int(median(map(min, sizes)))
