"""Layouts of a token grid: tokens (B, N, C), maps (B, C, H, W), heads (B, h, N, d); N = H * W."""

from __future__ import annotations

from torch import Tensor

from mmca.errors import InputError


def check_tokens(
    x: Tensor,
    hw_shape: tuple[int, int],
    embed_dims: int | None = None,
    special_tokens: bool = False,
) -> None:
    """Raise InputError for tokens that are not (B, H * W, C), C = `embed_dims` if given.

    With `special_tokens`, further tokens may stand before the grid's.
    """
    height, width = hw_shape
    if x.dim() != 3:
        raise InputError(f'tokens must be (B, N, C), got a tensor of shape {tuple(x.shape)}')
    special = x.shape[1] - height * width
    if height < 1 or width < 1 or special < 0 or (special and not special_tokens):
        raise InputError(
            f'hw_shape={(height, width)} has {height * width} tokens, but the input of shape '
            f'{tuple(x.shape)} has N={x.shape[1]}: pass (H, W) with H * W = N'
        )
    if embed_dims is not None and x.shape[2] != embed_dims:
        raise InputError(f'expected C={embed_dims} channels, got {tuple(x.shape)}')


def to_maps(x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Tokens (B, N, C) -> maps (B, C, H, W), the same memory."""
    return x.mT.unflatten(2, hw_shape)


def to_tokens(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) -> tokens (B, N, C), the same memory where the maps are contiguous."""
    return maps.flatten(2).mT


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, h, N, d), C = h * d."""
    return x.unflatten(2, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, h, N, d) -> (B, N, C), C = h * d."""
    return x.transpose(1, 2).flatten(2)
