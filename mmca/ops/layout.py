"""Memory layouts of a token grid: tokens (B, N, C), maps (B, C, H, W), N = H * W."""

from __future__ import annotations

from torch import Tensor

from mmca.errors import InputError


def check_tokens(
    x: Tensor,
    hw_shape: tuple[int, int],
    embed_dims: int | None = None,
    special_tokens: bool = False,
) -> None:
    """Refuse tokens that do not match the H x W grid.

    Args:
        x: (B, N, C) tokens.
        hw_shape: (H, W).
        embed_dims: C, where it is known.
        special_tokens: whether further tokens may stand before the grid's.

    Raises:
        InputError: `x` has not three dimensions, H * W != N, or C is another.
    """
    height, width = hw_shape
    if x.dim() != 3:
        raise InputError(f'tokens must be (B, N, C), got a tensor of shape {tuple(x.shape)}')
    special = x.shape[1] - height * width
    if height < 1 or width < 1 or special < 0 or (special and not special_tokens):
        raise InputError(
            f'hw_shape={(height, width)} has {height * width} tokens, but the input of shape '
            f'{tuple(x.shape)} has N={x.shape[1]}: pass the (H, W) with H * W = N'
        )
    if embed_dims is not None and x.shape[2] != embed_dims:
        raise InputError(f'expected C={embed_dims} channels, got {tuple(x.shape)}')


def to_maps(x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Tokens (B, N, C) -> maps (B, C, H, W), the same memory.

    Example:
        >>> import torch
        >>> to_maps(torch.zeros(2, 15, 8), (3, 5)).shape
        torch.Size([2, 8, 3, 5])
    """
    return x.mT.unflatten(2, hw_shape)


def to_tokens(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) -> tokens (B, N, C), the same memory where the maps are contiguous.

    Example:
        >>> import torch
        >>> to_tokens(torch.zeros(2, 8, 3, 5)).shape
        torch.Size([2, 15, 8])
    """
    return maps.flatten(2).mT
