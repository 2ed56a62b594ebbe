"""Circulant attention in real numbers and matrix products alone, for export formats without FFT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Planes = tuple[Tensor, Tensor]
Waves = tuple[Tensor, Tensor, Tensor, Tensor]


def real_form(
    x: Tensor, weight: None, heads: int, head_dim: int, return_logits: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """`mmca.ops.fused_circulant.FusedCirculantAttention` by separable DFT matrices.

    Takes O(N (H + W)) multiply-adds per channel and is slower than the FFT on large grids.
    torch.onnx exports this form, because ONNX has no complex numbers, and most of its runtimes have
    no FFT.

    Args:
        x: (B, D, H, W), float32 or float64; the channels of q, k and the values as there.
        weight: None.
        heads, head_dim, return_logits: as there.

    Returns:
        As there.
    """
    channels = heads * head_dim
    value_dim = x.shape[1] // heads - 2 * head_dim
    waves = (*_waves(x.shape[3], x.shape[3] // 2 + 1, x), *_waves(x.shape[2], x.shape[2], x))
    parts = x.split([channels, channels, heads * value_dim], 1)
    q_hat, k_hat, v_hat = (_forward(part, waves) for part in parts)
    products = _times(q_hat, _conj(k_hat))  # the reversed logits' spectrum, channel by channel
    logits = _inverse(tuple(x.unflatten(1, (-1, head_dim)).sum(2) for x in products), waves)
    logits = logits - logits.mean((2, 3), keepdim=True)  # softmax ignores it; preserves precision
    weights = logits.flatten(2).softmax(2).reshape(logits.shape)
    weights_hat = tuple(x.repeat_interleave(value_dim, 1) for x in _forward(weights, waves))
    out = _inverse(_times(weights_hat, v_hat), waves)
    return (out, logits) if return_logits else out


def dft_macs(num_tokens: int, embed_dims: int, head_dim: int = 1, keys: bool = False) -> int:
    """Multiply-adds of one circulant attention of N tokens and C / d heads, for one image.

    N log2(N) (4d + 2) + 4 N d for each head: 4d + 2 real transforms (q, k, v and the output,
    d each; the logits and the weights) and two products of spectra. With keys, the values have
    one more channel.
    """
    channels = 4 * head_dim + 2 * keys
    per_head = num_tokens * math.log2(num_tokens) * (channels + 2) + num_tokens * channels
    return round(per_head * (embed_dims // head_dim))


def matrix_macs(
    hw_shape: tuple[int, int], embed_dims: int, head_dim: int = 1, keys: bool = False
) -> int:
    """Multiply-adds of :func:`real_form`: what :func:`dft_macs` becomes.

    A transform is two real products along the width and four along the height. There are
    4d + 2 for each head, and two products of spectra.
    """
    height, width = hw_shape
    transform = (2 * width + 4 * height) * height * (width // 2 + 1)
    channels = 4 * head_dim + 2 * keys
    per_head = (channels + 2) * transform + height * width * channels
    return per_head * (embed_dims // head_dim)


def _conj(x: Planes) -> Planes:
    return x[0], -x[1]


def _times(x: Planes, y: Planes) -> Planes:
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def _waves(size: int, kept: int, like: Tensor) -> Planes:
    """Cosines and sines of the first frequencies, (size, kept) each."""
    steps = torch.arange(size, dtype=torch.float64)[:, None] * torch.arange(kept)
    angles = steps.remainder(size) * (2 * math.pi / size)
    return tuple(f(angles).to(like.device, like.dtype) for f in (torch.cos, torch.sin))


def _forward(x: Tensor, waves: Waves) -> Planes:
    """(B, C, H, W) -> real and imaginary part (B, C, H, W')."""
    cos_w, sin_w, cos_h, sin_h = waves
    real, imag = x @ cos_w, -(x @ sin_w)
    return cos_h @ real + sin_h @ imag, cos_h @ imag - sin_h @ real


def _inverse(x_hat: Planes, waves: Waves) -> Tensor:
    """H * W times the inverse transform, real and imaginary part (B, C, H, W') -> (B, C, H, W)."""
    cos_w, sin_w, cos_h, sin_h = waves
    width, kept = cos_w.shape
    columns = torch.arange(kept, device=cos_w.device)
    single = (columns == 0) | (2 * columns == width)  # the others stand for their mirror image too
    counts = 2 - single.to(cos_w.dtype)
    real, imag = cos_h @ x_hat[0] - sin_h @ x_hat[1], cos_h @ x_hat[1] + sin_h @ x_hat[0]
    return (real * counts) @ cos_w.mT - (imag * counts) @ sin_w.mT
