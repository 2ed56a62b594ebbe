"""The precision in which an op computes."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else.

    No half-precision FFT is usable in general (CUDA's takes powers of two in float16 only, the
    CPU has none), and sums over all tokens of a large grid leave the range of float16.
    """
    return dtype if dtype == torch.float64 else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which nothing is cast to half precision on this device."""
    if device.type == 'meta':  # which knows no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def matmul_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which autocast multiplies matrices; the dtype of x where autocast is off."""
    kind = x.device.type
    if kind != 'meta' and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype
