"""Zero padding of maps on the right and bottom, to the sizes that patches and windows need."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, unit: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H', W'), each side rounded up to a multiple of `unit`."""
    # Of positive numbers: ONNX rounds the quotients of negative ones up.
    return _pad(x, ((side + unit - 1) // unit * unit - side for side in x.shape[2:]))


def pad_to_minimum(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, max(H, size), max(W, size))."""
    # max(size - side, 0) would fix the batch size of an exported CSwin to more than one.
    return _pad(x, (max(side, size) - side for side in x.shape[2:]))


def crop(x: Tensor, hw_shape: tuple[int, int], top: int = 0, left: int = 0) -> Tensor:
    """(B, H', W', C) -> (B, H * W, C), without the padding, some of it above and to the left."""
    height, width = hw_shape
    if isinstance(height, int) and isinstance(width, int):
        return x[:, top : top + height, left : left + width].flatten(1, 2)
    # For the symbolic sizes of an export: whether a slice is contiguous would choose a branch.
    rows, columns = (torch.arange(size, device=x.device) for size in hw_shape)
    kept = (rows[:, None] + top) * x.shape[2] + columns + left
    return x.flatten(1, 2).index_select(1, kept.flatten())


def _pad(x: Tensor, missing: Iterable[int]) -> Tensor:
    bottom, right = missing
    # F.pad copies a map that fits. The symbolic sizes of an export must not choose a branch.
    if isinstance(bottom, int) and isinstance(right, int) and not (bottom or right):
        return x
    return F.pad(x, (0, right, 0, bottom))
