"""Images without labels."""

from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmca.errors import InputError
from mmca.registry import DATASETS

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
SHARE = (0.25, 1.0)  # of the image's area that a crop covers
ASPECT = (3 / 4, 4 / 3)  # width over height of a crop
HELD_OUT = 20  # one image of so many is never trained on


def find_images(folders: Sequence[str]) -> list[str]:
    """All images in folders and the folders in them, in the order of their names.

    Args:
        folders: paths.

    Returns:
        Paths of the files, `SUFFIXES` by name.

    Raises:
        InputError: a folder that is not there, or that holds no image.
    """
    found: list[str] = []
    for folder in folders:
        if not Path(folder).is_dir():
            raise InputError(f'--images {folder}: no such folder')
        files = sorted(f for f in Path(folder).rglob('*') if f.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f'--images {folder}: no images in it ({", ".join(SUFFIXES)})')
        found += map(str, files)
    return found


@DATASETS.register_module()
class UnlabeledImages(Dataset):
    """Square views of images: random crops, flipped in half of the cases, or the middle.

    Args:
        folders: where the images are, see :func:`find_images`.
        side: of the views in pixels.
        test_mode: the largest square in the middle of the images that are held out, one in
            `HELD_OUT`, instead of random crops of the others.

    Raises:
        InputError: no images; or one that cannot be read, when it is asked for.
    """

    def __init__(self, folders: Sequence[str], side: int = 288, test_mode: bool = False) -> None:
        files = find_images(folders)
        held_out = files[::HELD_OUT]
        self.files = held_out if test_mode else sorted(set(files) - set(held_out))
        self.side = side
        self.test_mode = test_mode

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """`inputs`: (3, side, side), uint8, BGR."""
        image = read_image(self.files[index])
        if self.test_mode:
            return {'inputs': middle_view(image, self.side)}
        view = mmcv.imcrop(image, _random_box(image.shape[:2]))
        view = mmcv.imresize(view, (self.side, self.side))
        return {'inputs': _to_tensor(mmcv.imflip(view) if np.random.rand() < 0.5 else view)}


def read_image(path: str) -> np.ndarray:
    """(height, width, 3), uint8, BGR.

    Args:
        path: of the file.

    Raises:
        InputError: it cannot be read.
    """
    image = mmcv.imread(path)
    if image is None:
        raise InputError(f'cannot read the image {path}: remove or replace it')
    return image


def middle_view(image: np.ndarray, side: int) -> Tensor:
    """The largest square in the middle of an image.

    Args:
        image: (height, width, 3).
        side: in pixels that it is resized to.

    Returns:
        (3, side, side).
    """
    return _to_tensor(mmcv.imresize(mmcv.imcrop(image, _middle(image.shape[:2])), (side, side)))


def _to_tensor(image: np.ndarray) -> Tensor:
    """(height, width, 3) -> (3, height, width)."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def _middle(shape: tuple[int, int]) -> np.ndarray:
    """x1, y1, x2, y2 of the largest square, inclusive as mmcv counts."""
    height, width = shape
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return np.array([left, top, left + side - 1, top + side - 1])


def _random_box(shape: tuple[int, int]) -> np.ndarray:
    """x1, y1, x2, y2 of a crop, inclusive; cut off where its shape does not fit."""
    height, width = shape
    area = np.random.uniform(*SHARE) * height * width
    aspect = np.exp(np.random.uniform(*np.log(ASPECT)))
    w = max(1, min(width, round((area * aspect) ** 0.5)))
    h = max(1, min(height, round((area / aspect) ** 0.5)))
    left, top = np.random.randint(width - w + 1), np.random.randint(height - h + 1)
    return np.array([left, top, left + w - 1, top + h - 1])
