"""Softmax attention that is exact in windows and projected beyond them, O(N log N)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.ops.chunks import in_chunks
from mmca.ops.circulant import check_qkv, circulant_attention_and_logits
from mmca.ops.layout import merge_heads, split_heads
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
        >>> torch.allclose(out, merge_heads(exact), atol=1e-5)
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
        far, lse, logits = circulant_attention_and_logits(
            q, k, values, hw_shape, head_dim, 'paper', keys
        )
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
    heads, channels = keys.shape[1], q.shape[2]
    real = torch.ones_like(keys[:, :1])
    tokens = torch.cat([q, k, v, far, keys.mT, lse.mT, real.mT], 2)
    grid = pad_to_multiple(tokens.mT.unflatten(2, hw_shape), size)  # (B, 4C + 2h + 1, H', W')
    windows = grid.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 3, 5, 1)
    counts = windows.shape[1:3]
    windows = windows.flatten(3, 4).flatten(1, 2)  # (B, n, M^2, ...)
    kernel = _kernel_in_window(logits, size).flatten(1)  # of each image, for all its windows
    kernel = kernel[:, None].expand(-1, windows.shape[1], -1)
    attend = partial(_attend_in_windows, channels=channels, heads=heads)
    width = size**2 * max(tokens.shape[2], heads * size**2)
    out = in_chunks(attend, windows.flatten(0, 1), kernel.flatten(0, 1), width=width)
    out = out.unflatten(1, (size, size)).unflatten(0, (-1, *counts))
    out = crop(out.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2), hw_shape)
    out, lse = out.split([channels, heads], 2)
    return out, lse.mT


def _kernel_in_window(logits: Tensor, size: int) -> Tensor:
    """(B, h, H, W) -> (B, h, M^2, M^2): the logit a_{m-n} of query n and key m in a window."""
    steps = torch.arange(size, device=logits.device)
    steps = steps - steps[:, None]  # [n, m] of one axis
    y, x = (steps % side for side in logits.shape[2:])
    index = y[:, None, :, None] * logits.shape[3] + x[None, :, None]
    return logits.flatten(2)[:, :, index.reshape(size**2, size**2)]


def _attend_in_windows(windows: Tensor, kernel: Tensor, channels: int, heads: int) -> Tensor:
    """(n, M^2, 4C + 2h + 1) and (n, h M^4) -> (n, M^2, C + h), the output and the log sums."""
    *tokens, keys, lse, real = windows.split([channels] * 4 + [heads, heads, 1], 2)
    q, k, v, far = (split_heads(x, heads) for x in tokens)
    mask = torch.where(real > 0, 0.0, float('-inf')).mT[:, None]  # of the padding, (n, 1, 1, M^2)
    exact = q @ k.mT * q.shape[3] ** -0.5 + mask
    projected = kernel.view_as(exact) + keys.mT[:, :, None] + mask
    lse = lse.mT[..., None]
    largest = torch.maximum(exact.detach().amax(3, keepdim=True), lse.detach())
    exact, whole = (exact - largest).exp(), (lse - largest).exp()
    weights = exact - (projected - largest).exp()
    least = exact.sum(3, keepdim=True) + whole * torch.finfo(whole.dtype).eps
    total = torch.maximum(weights.sum(3, keepdim=True) + whole, least)
    out = (weights @ v + whole * far) / total
    return torch.cat([merge_heads(out), (largest + total.log())[..., 0].mT], 2)
