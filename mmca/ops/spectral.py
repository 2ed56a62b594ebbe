"""The real 2-D discrete Fourier transform: one front door for layout and backend.

Notation: `...` any leading dimensions, H x W the token grid, W' = W // 2 + 1 the kept half of
the spectrum of a real signal.
"""

import torch
from torch import Tensor


def rfft2(x: Tensor) -> Tensor:
    """Unnormalised 2-D DFT of real maps.

    Args:
        x: (..., H, W), float32 or float64.

    Returns:
        (..., H, W') complex, W' = W // 2 + 1.
    """
    return torch.fft.rfft2(x)


def irfft2(x_hat: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Inverse of :func:`rfft2`, carrying the factor 1 / (H * W).

    Args:
        x_hat: (..., H, W') complex.
        hw_shape: (H, W) of the result; W cannot be told from W' alone.

    Returns:
        (..., H, W) real.
    """
    return torch.fft.irfft2(x_hat, s=hw_shape)


def correlate(b_hat: Tensor, x_hat: Tensor) -> Tensor:
    """Spectrum of the circular cross-correlation (b (*) x)_n = sum_m b_m x_{n+m}.

    Args:
        b_hat: (..., H, W') complex, the spectrum of the kernel b.
        x_hat: (..., H, W') complex, the spectrum of the signal x; broadcasts with b_hat.

    Returns:
        (..., H, W') complex: conj(b_hat) * x_hat.
    """
    return b_hat.conj() * x_hat
