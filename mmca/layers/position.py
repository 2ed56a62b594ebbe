"""Learned positions on grids of another size."""

import math

import torch.nn.functional as F
from torch import Tensor


def resize_tokens(tokens: Tensor, hw_shape: tuple[int, int], mode: str = 'bilinear') -> Tensor:
    """Resize what was learned on a square grid to another grid.

    Args:
        tokens: (1, S * S, C), such as a position embedding.
        hw_shape: (H, W) wanted.
        mode: 'bilinear' or 'bicubic'.

    Returns:
        (1, H * W, C); the same tensor where (H, W) is (S, S).

    Example:
        >>> import torch
        >>> resize_tokens(torch.zeros(1, 49, 8), (5, 9)).shape
        torch.Size([1, 45, 8])
    """
    side = math.isqrt(tokens.shape[1])
    # The symbolic sizes of an export must not choose a branch; resizing to (S, S) is exact.
    if isinstance(hw_shape[0], int) and tuple(hw_shape) == (side, side):
        return tokens
    # Resizing keeps the memory layout, and the convolution's tokens are channels first.
    grid = tokens.mT.contiguous().unflatten(2, (side, side))
    return F.interpolate(grid, hw_shape, mode=mode, align_corners=False).flatten(2).mT
