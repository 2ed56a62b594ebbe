"""Image files, shared by all converters."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmca.errors import InputError

QUALITY = 95


def listed(folder: Path, number: int) -> list[Path]:
    """List the .png files of a folder, sorted by name, and verify their number.

    Raises:
        InputError: the folder is missing or incomplete.
    """
    files = sorted(folder.glob('*.png'))
    if len(files) != number:
        raise InputError(
            f'{folder} has {len(files)} .png files instead of {number}: download the data set again'
        )
    return files


def read(path: Path) -> np.ndarray:
    """Read the values of an image file without conversion.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.array(image)
    except OSError as error:
        raise InputError(f'cannot read {path}: download the data set again ({error})') from error


def write_jpeg(values: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) RGB values and create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).convert('RGB').save(path, quality=QUALITY)


def with_progress(files: Iterable[Path], label: str) -> Iterator[Path]:
    """Yield files and show a progress bar."""
    from rich.progress import track

    yield from track(list(files), label)
