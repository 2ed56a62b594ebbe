"""Softmax attention that is exact in windows and projected beyond them, O(N log N)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.ops.chunks import in_chunks
from mmca.ops.circulant import attend, check_qkv
from mmca.ops.layout import split_heads, to_maps
from mmca.ops.padding import crop, pad_to_multiple
from mmca.ops.precision import wide_dtype, without_autocast


def windowed_circulant_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int,
    window_size: int = 7,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax attention with exact logits within windows and projected ones beyond them, per head.

    The grid is divided into windows of M x M tokens, from its upper left; the last ones may be
    smaller. With L = Q K^T / sqrt(d), token n attends to token m with the logit

        L_{nm} - mean_m L_{nm}   if both are in the same window,
        a_{m-n} + b_m            otherwise,

    where a and b are the projection of the mean-free L on the sums of a block-circulant matrix and
    a matrix with equal rows: a_k = mean_n L_{n,n+k} (arXiv 2512.21542, eq. 15) and b_m = mean_n
    L_{nm}. Circulant attention with keys computes a and b for all pairs by FFT; the pairs within
    windows are then replaced, which takes O(N M^2).

    In float32, the error relative to the values is about 1e-7 times exp of the largest excess of a
    projected logit over the exact ones that a token has in its window.

    Args:
        q, k, v: (B, N, C) with N = H * W, any floating dtype. Dtypes narrower than float32 are
            computed in float32 with autocast off.
        hw_shape: (H, W), any size from 1 x 1 up.
        head_dim: d; channels h*d .. h*d + d-1 form head h.
        window_size: M. If one window covers the grid, this is softmax attention.
        return_lse: also return the logarithm of the sum of exp(logits) of each query, to combine
            the result with attention to further tokens.

    Returns:
        (B, N, C) in the dtype of v; with return_lse also (B, C / d, N), at least float32.

    Raises:
        InputError: H * W != N, shapes differ, d does not divide C, or window_size < 1.

    Example:
        >>> q, k, v = torch.randn(3, 2, 15, 8)
        >>> windowed_circulant_attention(q, k, v, (3, 5), head_dim=4, window_size=2).shape
        torch.Size([2, 15, 8])
        >>> heads = [split_heads(x, 2) for x in (q, k, v)]
        >>> exact = torch.nn.functional.scaled_dot_product_attention(*heads)
        >>> out = windowed_circulant_attention(q, k, v, (3, 5), head_dim=4, window_size=5)
        >>> torch.allclose(out, exact.transpose(1, 2).flatten(2), atol=1e-5)
        True
    """
    check_qkv(q, k, v, hw_shape, head_dim)
    if window_size < 1:
        raise InputError(f'window_size must be at least 1, got {window_size}')
    dtype, heads = wide_dtype(torch.promote_types(q.dtype, v.dtype)), q.shape[2] // head_dim
    with without_autocast(q.device):
        q, k, values = q.to(dtype), k.to(dtype), v.to(dtype)
        k = k - k.mean(1, keepdim=True)
        mean_q = split_heads(q.mean(1, keepdim=True), heads) * head_dim**-0.5
        keys = (mean_q @ split_heads(k, heads).mT)[:, :, 0]  # b, (B, h, N)
        far, lse, logits = attend(q, k, values, hw_shape, head_dim, 'paper', keys, details=True)
        out, lse = _replace_near(q, k, values, far, keys, lse, logits, hw_shape, window_size)
    out = out.to(v.dtype)
    return (out, lse) if return_lse else out


def _replace_near(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    far: Tensor,
    keys: Tensor,
    lse: Tensor,
    logits: Tensor,
    hw_shape: tuple[int, int],
    size: int,
) -> tuple[Tensor, Tensor]:
    """The output and the logarithms of the sums with exact logits in windows."""
    heads = keys.shape[1]
    tokens = q, k, v, keys.mT, lse.mT
    windows = [_to_windows(x, heads, hw_shape, size) for x in tokens]
    real = _to_windows(torch.ones_like(keys[:, :1]).mT, 1, hw_shape, size)  # 0 in the padding
    counts = windows[0].shape[:3]
    kernel = _kernel_in_window(logits, size)[:, None, None].expand(*counts, -1, -1, -1)
    rows = [x.flatten(0, 2) for x in (*windows, real, kernel)]
    out = in_chunks(_attend_in_windows, *rows, width=heads * size**2 * max(q.shape[2], size**2))
    out = out.unflatten(2, (size, size)).unflatten(0, counts).permute(0, 1, 4, 2, 5, 3, 6)
    out = crop(out.flatten(3, 4).flatten(1, 2).flatten(3), hw_shape)
    near, ratio, lse = out.unflatten(2, (heads, -1)).split([q.shape[2] // heads, 1, 1], 3)
    out = torch.addcmul(near, ratio, far.view_as(near))
    return out.flatten(2), lse[..., 0].mT


def _to_windows(x: Tensor, heads: int, hw_shape: tuple[int, int], size: int) -> Tensor:
    """Tokens (B, N, C) -> windows (B, rows, columns, h, M^2, d), padded with zeros."""
    grid = pad_to_multiple(to_maps(x, hw_shape), size).permute(0, 2, 3, 1)
    grid = grid.unflatten(3, (heads, -1)).unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return grid.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5)


def _kernel_in_window(logits: Tensor, size: int) -> Tensor:
    """(B, h, H, W) -> (B, h, M^2, M^2): the logit a_{m-n} of query n and key m in a window."""
    y, x = (_displacements(size, side, logits.device) for side in logits.shape[2:])
    index = y[:, None, :, None] * logits.shape[3] + x[None, :, None]
    return logits.flatten(2)[:, :, index.reshape(size**2, size**2)]


def _displacements(size: int, side: int, device: torch.device) -> Tensor:
    """(M, M): m - n on a torus of this side, which may be a symbolic size of an export."""
    steps = torch.arange(size, device=device)
    steps = steps - steps[:, None]
    steps = torch.where(steps < 0, steps + side, steps)  # ONNX has no remainder by a symbol
    return torch.where((steps >= 0) & (steps < side), steps, 0)  # 0: to or from the padding


def _attend_in_windows(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, lse: Tensor, real: Tensor, kernel: Tensor
) -> Tensor:
    """Of windows (n, h, M^2, d or 1), (n, h, M^2, d + 2).

    The values of near tokens, the factor of the attention to all tokens, which includes near ones,
    to be added, and the logarithms of the sums.
    """
    mask = torch.where(real > 0, 0.0, float('-inf'))
    exact = q @ k.mT * q.shape[3] ** -0.5 + mask.mT
    projected = kernel + (keys + mask).mT
    largest = torch.maximum(exact.detach().amax(3, keepdim=True), lse.detach())
    exact, whole = (exact - largest).exp(), (lse - largest).exp()
    weights = exact - (projected - largest).exp()
    least = exact.sum(3, keepdim=True) + whole * torch.finfo(whole.dtype).eps
    total = torch.maximum(weights.sum(3, keepdim=True) + whole, least)
    return torch.cat([weights @ v / total, whole / total, largest + total.log()], 3)
