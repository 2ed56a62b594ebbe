"""Images without labels."""

from collections.abc import Sequence

import mmcv
import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from mmca.analysis.images import middle_view, thin, to_tensor
from mmca.errors import InputError
from mmca.io import find_images, image_size, read_image
from mmca.registry import DATASETS

AREA = (0.25, 1.0)  # of the image that a crop covers
ASPECT = (3 / 4, 4 / 3)  # width over height of a crop
HELD_OUT = 20  # every 20th image is for validation


def count_images(folders: Sequence[str]) -> int:
    """Count the images in folders and their subfolders; all must be readable."""
    files = [file for folder in folders for file in find_images(folder)]
    if len(files) < HELD_OUT:
        raise InputError(f'--images: found {len(files)} images, but at least {HELD_OUT} are needed')
    unreadable = []
    for file in files:
        try:
            image_size(file)
        except InputError as error:
            unreadable.append(error)
    if unreadable:
        count = f'{len(unreadable)} of {len(files)} images cannot be read'
        raise InputError(f'--images: {count}, the first: {unreadable[0]}')
    return len(files)


@DATASETS.register_module()
class UnlabeledImages(Dataset):
    """Square views of images: random crops, flipped half of the time.

    Args:
        folders: the image folders, searched with their subfolders.
        side: size of the views in pixels.
        test_mode: return centered squares of the held-out images instead of crops of the others.
    """

    def __init__(self, folders: Sequence[str], side: int = 288, test_mode: bool = False) -> None:
        files = [str(file) for folder in folders for file in find_images(folder)]
        held_out = files[::HELD_OUT]
        self.files = held_out if test_mode else sorted(set(files) - set(held_out))
        self.side = side
        self.test_mode = test_mode

    def __len__(self) -> int:
        return len(self.files)

    def middle_views(self, number: int) -> list[Tensor]:
        """Centered squares, (3, side, side), of at most `number` images, evenly spaced."""
        return [middle_view(read_image(file), self.side) for file in thin(self.files, number)]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """`inputs`: (3, side, side), uint8, BGR."""
        image = read_image(self.files[index])
        if self.test_mode:
            return {'inputs': middle_view(image, self.side)}
        view = mmcv.imresize(_random_crop(image), (self.side, self.side))
        return {'inputs': to_tensor(mmcv.imflip(view) if np.random.rand() < 0.5 else view)}


def _random_crop(image: np.ndarray) -> np.ndarray:
    """A crop of random area and aspect ratio, limited to the image."""
    height, width = image.shape[:2]
    area = np.random.uniform(*AREA) * height * width
    aspect = np.exp(np.random.uniform(*np.log(ASPECT)))
    w = max(1, min(width, round((area * aspect) ** 0.5)))
    h = max(1, min(height, round((area / aspect) ** 0.5)))
    left, top = np.random.randint(width - w + 1), np.random.randint(height - h + 1)
    return image[top : top + h, left : left + w]
