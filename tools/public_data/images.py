"""What the conversions share."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmca.errors import InputError

QUALITY = 95


def listed(folder: Path, number: int) -> list[Path]:
    """The .png files of a folder of a known number of them.

    Args:
        folder: where they should be.
        number: how many the data set has.

    Returns:
        Their paths in the order of their names.

    Raises:
        InputError: the folder is absent or incomplete.
    """
    files = sorted(folder.glob('*.png'))
    if len(files) != number:
        raise InputError(
            f'{folder} has {len(files)} .png files, the data set has {number}: download it again'
        )
    return files


def read(path: Path) -> np.ndarray:
    """The values of an image file, as they are.

    Raises:
        InputError: it is absent or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.array(image)
    except OSError as error:
        raise InputError(f'cannot read {path}: download the data set again ({error})') from error


def write_jpeg(values: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) RGB values, with the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).convert('RGB').save(path, quality=QUALITY)


def with_progress(files: Iterable[Path], label: str) -> Iterator[Path]:
    """Go through files behind a progress bar."""
    from rich.progress import track

    yield from track(list(files), label)
