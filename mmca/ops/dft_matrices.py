"""Circulant attention in real numbers and matrix products alone, for export formats without FFT."""

import math

import torch
from torch import Tensor

Planes = tuple[Tensor, Tensor]


def real_form(q: Tensor, k: Tensor, v: Tensor, head_dim: int, factor: float) -> Tensor:
    """What :func:`mmca.ops.circulant_attention` computes, by separable DFT matrices.

    O(N (H + W)) products a channel: slower than the FFT on large grids, but ONNX knows neither
    complex numbers nor, in most of its runtimes, a transform. torch.onnx gets this form.

    Args:
        q, k, v: (B, C, H, W), float32 or float64.
        head_dim: d.
        factor: scale of the logits.

    Returns:
        (B, C, H, W).
    """
    q_hat, k_hat, v_hat = (_forward(x) for x in (q * factor, k, v))
    products = _times(q_hat, _conj(k_hat))  # the reversed logits' spectrum, channel by channel
    logits = _inverse(products, q).unflatten(1, (-1, head_dim)).sum(2)
    logits = logits - logits.mean((2, 3), keepdim=True)  # softmax ignores it; preserves precision
    weights = logits.flatten(2).softmax(2).reshape(logits.shape)
    weights = weights.repeat_interleave(head_dim, 1)
    return _inverse(_times(_forward(weights), v_hat), q)


def _conj(x: Planes) -> Planes:
    return x[0], -x[1]


def _times(x: Planes, y: Planes) -> Planes:
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def _waves(size: int, kept: int, like: Tensor) -> Planes:
    """Cosines and sines of the first frequencies, (size, kept) each."""
    steps = torch.arange(size, dtype=torch.float64)[:, None] * torch.arange(kept)
    angles = steps.remainder(size) * (2 * math.pi / size)
    return tuple(f(angles).to(like.device, like.dtype) for f in (torch.cos, torch.sin))


def _forward(x: Tensor) -> Planes:
    """(B, C, H, W) -> real and imaginary part (B, C, H, W')."""
    height, width = x.shape[2:]
    (cos_w, sin_w), (cos_h, sin_h) = _waves(width, width // 2 + 1, x), _waves(height, height, x)
    real, imag = x @ cos_w, -(x @ sin_w)
    return cos_h @ real + sin_h @ imag, cos_h @ imag - sin_h @ real


def _inverse(x_hat: Planes, like: Tensor) -> Tensor:
    """Real and imaginary part (B, C, H, W') -> (B, C, H, W)."""
    height, width = like.shape[2:]
    kept = width // 2 + 1
    (cos_w, sin_w), (cos_h, sin_h) = _waves(width, kept, like), _waves(height, height, like)
    # Columns that stand for their mirror image too.
    counts = torch.tensor([1.0 if 2 * i in (0, width) else 2.0 for i in range(kept)])
    counts = counts.to(like.device, like.dtype) / (height * width)
    real, imag = cos_h @ x_hat[0] - sin_h @ x_hat[1], cos_h @ x_hat[1] + sin_h @ x_hat[0]
    return (real * counts) @ cos_w.mT - (imag * counts) @ sin_w.mT
