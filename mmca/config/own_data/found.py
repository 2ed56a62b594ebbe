"""What there is in the folder of a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from mmca.errors import InputError
from mmca.inference.sources import IMAGES

SPLITS = ('train', 'val', 'test')
DEPTH = 4  # of the folders that are looked into
HELD_OUT = 0.2  # of the images, where there is no split for validation
_SPLIT = re.compile(r'(?<![a-z])(train|val|test)(?:ing|id|idation)?(?:annot|mask)?s?(?![a-z])')
_DEV = re.compile(r'(?<![a-z])dev(?![a-z])')


@dataclass
class Split:
    """One part of a data set.

    Attributes:
        images: folder, below the data set's.
        labels: folder of the label maps, below the data set's; None of a COCO data set.
        listing: file that lists the split: COCO JSON, or the names of images; below the data set's
            folder, or absolute where it is written here. None where all images are used.
        number: of images.
        objects: class -> number of objects, or of the label maps that have it.
        content: of `listing` where it has to be written, else None.
    """

    images: str
    labels: str | None
    listing: str | None
    number: int
    objects: dict[str, int]
    content: str | None = None


@dataclass
class Found:
    """A data set.

    Attributes:
        root: its folder.
        task: 'masks', 'boxes' or 'labels'.
        classes: their names, in order.
        splits: 'train' and 'val', perhaps 'test'.
        sizes: (width, height) of images.
        suffixes: what the names of images and of label maps end in.
        notes: what the user should know.
    """

    root: Path
    task: str
    classes: list[str]
    splits: dict[str, Split]
    sizes: list[tuple[int, int]]
    suffixes: tuple[str, str] = ('.jpg', '.png')
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Median of the longer and of the shorter side."""
        return int(median(map(max, self.sizes))), int(median(map(min, self.sizes)))


def split_of(path: Path) -> str | None:
    """The split that a file or folder is of by its name, the innermost one first.

    Example:
        >>> split_of(Path('annotations/instances_val2017.json')), split_of(Path('images/training'))
        ('val', 'train')
        >>> split_of(Path('trainannot')), split_of(Path('pictures'))
        ('train', None)
    """
    for part in reversed(path.parts):
        if found := _SPLIT.search(part.lower()):
            return found[1]
        if _DEV.search(part.lower()):
            return 'val'
    return None


def folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """All folders of a data set, itself first, with their files' names; hidden ones excepted.

    Args:
        root: the data set's folder.

    Yields:
        Folders, and the sorted names of the files in each.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f'no such folder: {root}')
    for place, below, files in os.walk(root, followlinks=True):
        depth = len(Path(place).relative_to(root).parts)
        below[:] = sorted(name for name in below if not name.startswith('.') and depth < DEPTH)
        yield Path(place), sorted(name for name in files if not name.startswith('.'))


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(IMAGES)


def hold_out(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Choose images for validation, the same ones each time.

    Args:
        names: of all images.

    Returns:
        Those to train with, and those to validate with, in their order.

    Raises:
        InputError: a single image cannot be divided.
    """
    from random import Random

    names = list(names)
    if len(names) < 2:
        raise InputError(f'{len(names)} image is too few to hold some out for validation')
    chosen = set(Random(0).sample(range(len(names)), max(1, round(HELD_OUT * len(names)))))
    train = [name for i, name in enumerate(names) if i not in chosen]
    return train, [name for i, name in enumerate(names) if i in chosen]
