"""The real 2-D discrete Fourier transform: one entry point for layout and backend.

Notation: `...` any leading dimensions, H x W the token grid, W' = W // 2 + 1 the kept half of
the spectrum of a real signal.
"""

from functools import lru_cache

import torch
from torch import Tensor

from mmca.ops.backend import choose_backend

# The largest grids, in tokens, on which one product with the matrix of the whole transform beats
# the FFT of torch's CPU library, which is slow at small sizes, its inverse most of all. Measured
# once on one core, 6144 maps, FFT and product in ms: 7 x 7 0.41 and 0.34 forward, 7.8 and 0.4
# inverse; 14 x 14 1.8 and 8.2 forward, 14 and 9 inverse.
FORWARD_TOKENS = 64
INVERSE_TOKENS = 256
# Tokens inverted at a time. torch transposes a spectrum twice on the way, copies that cost little
# as long as they stay in the cache. Measured once on one core, all maps at once and in chunks, in
# ms: 64 maps of 200 x 336 30 and 11, 128 of 100 x 168 5.9 and 5.1, 512 of 56 x 56 4.1 and 3.9.
CHUNK = 2**18


def rfft2(x: Tensor) -> Tensor:
    """Unnormalized 2-D DFT of real maps.

    Args:
        x: (..., H, W), float32 or float64.

    Returns:
        (..., H, W') complex, W' = W // 2 + 1.
    """
    height, width = x.shape[-2:]
    if _small(x, height * width, FORWARD_TOKENS):
        planes = x.flatten(-2) @ _matrix(height, width, x.dtype)
        return torch.view_as_complex(planes.unflatten(-1, (height, width // 2 + 1, 2)))
    return torch.fft.rfft2(x)


def irfft2(x_hat: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """H * W times the inverse of :func:`rfft2`: on GPUs, its factor would be a pass of its own.

    Args:
        x_hat: (B, C, H, W') complex.
        hw_shape: (H, W) of the result; W cannot be told from W' alone.

    Returns:
        (B, C, H, W) real.
    """
    height, width = hw_shape
    if _small(x_hat, height * width, INVERSE_TOKENS):
        planes = torch.view_as_real(x_hat).flatten(-3)
        return (planes @ _inverse_matrix(height, width, planes.dtype)).unflatten(-1, hw_shape)
    recorded = torch.is_grad_enabled() and x_hat.requires_grad  # which `out=` refuses
    if recorded or choose_backend(x_hat) != 'cpu':
        return torch.fft.irfft2(x_hat, s=hw_shape, norm='forward')
    channels = x_hat.shape[1]
    out = x_hat.new_empty((len(x_hat), channels, *hw_shape), dtype=x_hat.dtype.to_real())
    maps = max(CHUNK // (height * width), 1)
    images = max(maps // channels, 1)
    for image, target in zip(x_hat.split(images), out.split(images), strict=True):
        for part, place in zip(image.split(maps, 1), target.split(maps, 1), strict=True):
            torch.fft.irfft2(part, s=hw_shape, norm='forward', out=place)
    return out


def _small(x: Tensor, tokens: int, limit: int) -> bool:
    # The backend first: the symbolic sizes of an export must not choose a branch.
    return choose_backend(x) == 'cpu' and tokens <= limit


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is cached must serve training too
def _matrix(height: int, width: int, dtype: torch.dtype) -> Tensor:
    """(H W, 2 H W'): real and imaginary parts of the transforms of the unit maps."""
    with torch.device('cpu'):
        units = torch.eye(height * width, dtype=torch.float64).unflatten(1, (height, width))
    return torch.view_as_real(torch.fft.rfft2(units)).flatten(1).to(dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _inverse_matrix(height: int, width: int, dtype: torch.dtype) -> Tensor:
    """(2 H W', H W): what :func:`irfft2` makes of a one in each real and imaginary part."""
    half = width // 2 + 1
    with torch.device('cpu'):
        units = torch.eye(2 * height * half, dtype=torch.float64).unflatten(1, (height, half, 2))
    maps = torch.fft.irfft2(torch.view_as_complex(units), s=(height, width), norm='forward')
    return maps.flatten(1).to(dtype)


def parseval_product(a_hat: Tensor, b_hat: Tensor, width: int) -> Tensor:
    """H * W times the sums over the grid of products of real maps, from their half spectra.

    Parseval: N sum_n a_n b_n = sum_f Re(a_hat_f conj(b_hat_f)) over the whole spectrum. Its
    columns are those of the half spectrum, all but the first, and for even W the last, twice.

    Args:
        a_hat: (B, A, H, W') complex; overwritten.
        b_hat: (B, C, H, W') complex.
        width: W.

    Returns:
        (A, C) real: N times the sum over batch and grid of a_i * b_j.
    """
    for column in (0, width // 2) if width % 2 == 0 else (0,):
        a_hat[..., column] *= 0.5
    a, b = (torch.view_as_real(x).flatten(2) for x in (a_hat, b_hat))
    return torch.bmm(a, b.mT).sum(0).mul_(2)
