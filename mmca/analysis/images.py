"""Images as inputs of backbones."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mmca.errors import InputError
from mmca.io import find_images, read_image


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) -> (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def middle_view(image: np.ndarray, side: int) -> Tensor:
    """Crop (H, W, 3) to the largest centered square and resize it to (3, side, side)."""
    square = min(image.shape[:2])
    top, left = ((n - square) // 2 for n in image.shape[:2])
    crop = image[top : top + square, left : left + square]
    return to_tensor(mmcv.imresize(crop, (side, side)))


def normalize(image: Tensor, cfg: Config) -> Tensor:
    """Normalize (3, H, W), BGR from 0 to 255, to RGB, as a config's data preprocessor does."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if not (preprocessor.get('mean') and preprocessor.get('std')):
        raise InputError('model.data_preprocessor of the config must have mean and std')
    mean, std = (torch.tensor(preprocessor[key]).view(3, 1, 1) for key in ('mean', 'std'))
    return (image.flip(0).float() - mean) / std


def spread(folders: Sequence[str], number: int) -> list[Path]:
    """Choose at most `number` images of folders, see :func:`thin`."""
    return thin([file for folder in folders for file in find_images(folder)], number)


def thin(files: Sequence, number: int) -> list:
    """Choose at most `number`, evenly spaced: folders are often sorted by class."""
    number = min(number, len(files))
    return [files[i * len(files) // number] for i in range(number)]


def middle_views(files: Sequence[Path], side: int, cfg: Config) -> Iterator[Tensor]:
    """Read images one by one, each as a normalized :func:`middle_view`."""
    for file in files:
        yield normalize(middle_view(read_image(file), side), cfg)
