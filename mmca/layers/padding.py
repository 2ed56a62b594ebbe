"""Zero padding of maps on the right and bottom, to the sizes that patches and windows need.

The memory layout is kept, and a map that fits is returned as it is, where F.pad would copy it.
"""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, unit: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H', W'), each side rounded up to a multiple of `unit`."""
    return _pad(x, [-(-size // unit) * unit for size in x.shape[2:]])


def pad_to_minimum(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, max(H, size), max(W, size))."""
    return _pad(x, [max(side, size) for side in x.shape[2:]])


def _pad(x: Tensor, hw_shape: list[int]) -> Tensor:
    bottom, right = (new - old for new, old in zip(hw_shape, x.shape[2:], strict=True))
    if not (bottom or right):
        return x
    if x.stride(1) == 1:  # channels last, which F.pad does not always recognize
        return F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, right, 0, bottom)).permute(0, 3, 1, 2)
    return F.pad(x, (0, right, 0, bottom))
