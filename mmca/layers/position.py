"""Learned positions on grids of another size."""

import math

import torch.nn.functional as F
from torch import Tensor


def resize_tokens(tokens: Tensor, hw_shape: tuple[int, int], mode: str = 'bilinear') -> Tensor:
    """Bring what was learned on a square grid to another grid.

    Args:
        tokens: (1, S * S, C), such as a position embedding.
        hw_shape: (H, W) wanted.
        mode: 'bilinear' or 'bicubic'.

    Returns:
        (1, H * W, C); the very same tensor where (H, W) is (S, S).
    """
    side = math.isqrt(tokens.shape[1])
    if tuple(hw_shape) == (side, side):
        return tokens
    # Resizing keeps the memory layout, and channels first is what the convolution's tokens have.
    grid = tokens.mT.contiguous().unflatten(2, (side, side))
    return F.interpolate(grid, hw_shape, mode=mode, align_corners=False).flatten(2).mT
