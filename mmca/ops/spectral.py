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


def parseval_product(a_hat: Tensor, b_hat: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Sums over the grid of products of real maps, from their half spectra.

    Parseval: sum_n a_n b_n = 1 / N sum_f Re(a_hat_f conj(b_hat_f)) over the whole spectrum. Its
    columns are those of the half spectrum, all but the first, and for even W the last, twice.

    Args:
        a_hat: (B, A, H, W') complex; overwritten.
        b_hat: (B, C, H, W') complex.
        hw_shape: (H, W).

    Returns:
        (A, C) real: sum over batch and grid of a_i * b_j.
    """
    height, width = hw_shape
    for column in (0, width // 2) if width % 2 == 0 else (0,):
        a_hat[..., column] *= 0.5
    a, b = (torch.view_as_real(x).flatten(2) for x in (a_hat, b_hat))
    return torch.bmm(a, b.mT).sum(0).mul_(2 / (height * width))
