"""Circulant attention by FFT, O(N log N) in time and O(N) in memory.

Source: Han, Li, Wang, Huang, "Vision Transformers are Circulant Attention Learners", AAAI 2026,
arXiv 2512.21542. Equations 13 to 15 there; the dense forms are in `mmca.ops.reference`.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.ops.precision import wide_dtype, without_autocast
from mmca.ops.spectral import correlate, irfft2, rfft2

Scale = Literal['sqrt', 'paper'] | float


def logit_scale(scale: Scale, num_tokens: int, head_dim: int) -> float:
    """The factor between the correlation sum_d Q (*) K and the attention logits.

    Args:
        scale: 'sqrt' is 1 / sqrt(N * d), what the authors' released code computes and their
            weights need; 'paper' is 1 / (N * sqrt(d)), the Frobenius projection of
            Q K^T / sqrt(d) (arXiv 2512.21542, eq. 15); a number is taken as the whole factor.
        num_tokens: N.
        head_dim: d.

    Returns:
        The factor.

    Raises:
        InputError: unknown scale.
    """
    if scale == 'sqrt':
        return 1 / math.sqrt(num_tokens * head_dim)
    if scale == 'paper':
        return 1 / (num_tokens * math.sqrt(head_dim))
    if isinstance(scale, str) or not math.isfinite(scale):
        raise InputError(f"scale must be 'sqrt', 'paper' or a finite number, got {scale!r}")
    return float(scale)


def check_tokens(x: Tensor, hw_shape: tuple[int, int]) -> None:
    """Refuse tokens that do not lie on the H x W grid.

    Args:
        x: (B, N, C) tokens.
        hw_shape: (H, W).

    Raises:
        InputError: `x` has no three dimensions, or H * W != N.
    """
    height, width = hw_shape
    if x.dim() != 3:
        raise InputError(f'tokens must be (B, N, C), got a tensor of shape {tuple(x.shape)}')
    if height < 1 or width < 1 or height * width != x.shape[1]:
        raise InputError(
            f'hw_shape={(height, width)} has {height * width} tokens, but the input of shape '
            f'{tuple(x.shape)} has N={x.shape[1]}: pass the (H, W) with H * W = N'
        )


def check_qkv(q: Tensor, k: Tensor, v: Tensor, hw_shape: tuple[int, int], head_dim: int) -> None:
    """Refuse q, k, v that circulant attention cannot take.

    Args:
        q, k, v: (B, N, C) each.
        hw_shape: (H, W) with H * W = N.
        head_dim: d, must divide C.

    Raises:
        InputError: shapes differ, N is not H * W, or d does not divide C.
    """
    check_tokens(q, hw_shape)
    if not q.shape == k.shape == v.shape:
        raise InputError(
            'q, k and v must have one shape, got '
            f'{tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}'
        )
    if head_dim < 1 or q.shape[2] % head_dim:
        raise InputError(f'head_dim must divide C, got head_dim={head_dim}, C={q.shape[2]}')


def circulant_kernel(
    q: Tensor, k: Tensor, hw_shape: tuple[int, int], head_dim: int = 1, scale: Scale = 'sqrt'
) -> Tensor:
    """The attention weights softmax(a), a = scale * sum_d Q (*) K, as one kernel per head.

    Token n of a head attends to token n + m of the torus with the weight at m, for every n: the
    kernel is the first row of the head's block-circulant attention matrix.

    Args:
        q, k, hw_shape, head_dim, scale: as for :func:`circulant_attention`.

    Returns:
        (B, C / d, H, W), float64 for float64, else float32; each kernel sums to one.
    """
    check_qkv(q, k, k, hw_shape, head_dim)
    dtype = wide_dtype(q.dtype)
    factor = logit_scale(scale, q.shape[1], head_dim)
    with without_autocast(q.device):
        q_hat, k_hat = (_spectrum(x.to(dtype), hw_shape, head_dim) for x in (q, k))
        logits_hat = correlate(q_hat * factor, k_hat).sum(2)
        # Softmax ignores a constant. The common offset of the logits is by far their largest
        # part on large grids, so leaving it out of the spectrum is what keeps the digits.
        logits_hat[..., 0, 0] = 0
        logits = irfft2(logits_hat, hw_shape)
        return logits.flatten(-2).softmax(-1).view_as(logits)


def _spectrum(x: Tensor, hw_shape: tuple[int, int], head_dim: int) -> Tensor:
    """(B, N, C) -> (B, C / d, d, H, W') complex."""
    return rfft2(x.mT.unflatten(1, (-1, head_dim)).unflatten(3, hw_shape))


def circulant_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """O = softmax(a) (*) V with a = scale * sum_d Q (*) K, per head (arXiv 2512.21542).

    (b (*) x)_n = sum_m b_m x_{n+m} is the circular cross-correlation on the H x W torus, that
    is the product of x with the block-circulant matrix whose first row is b. The grid wraps
    around: the result depends on the grid's size, so padding an image changes every token.

    Memory layout is free. `q.mT` being contiguous, as when a projection writes (B, C, N), is
    the fastest; the result has that layout.

    Args:
        q, k, v: (B, N, C) with N = H * W, any floating dtype. Anything narrower than float32 is
            computed in float32 with autocast off.
        hw_shape: (H, W), any size from 1 x 1.
        head_dim: d; channels h*d .. h*d + d-1 form head h. The paper's default is 1, every
            channel its own head.
        scale: 'sqrt', 'paper' or a number, see :func:`logit_scale`.

    Returns:
        (B, N, C) in the dtype of v.

    Raises:
        InputError: H * W != N, shapes differ, d does not divide C, or scale is unknown.
    """
    check_qkv(q, k, v, hw_shape, head_dim)
    dtype = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    kernel = circulant_kernel(q.to(dtype), k.to(dtype), hw_shape, head_dim, scale)
    with without_autocast(q.device):
        v_hat = _spectrum(v.to(dtype), hw_shape, head_dim)
        out = irfft2(correlate(rfft2(kernel).unsqueeze(2), v_hat), hw_shape)
    return out.flatten(3).flatten(1, 2).mT.to(v.dtype)
