"""The precision in which an op computes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


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
    """The dtype in which autocast multiplies matrices; the dtype of x where autocast is off.

    Autocast leaves float64 alone.
    """
    kind = x.device.type
    if kind != 'meta' and x.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def first_order_backward(backward: Callable) -> Callable:
    """A decorator for the backward pass of an autograd.Function that autograd cannot differentiate.

    It runs without autocast, as the forward pass does: autocast surrounds a backward pass under
    torch.compile, and wherever it is called inside of an autocast context.
    """

    @once_differentiable
    @wraps(backward)
    def without_cast(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(grads[0].device):
            return backward(ctx, *grads)

    return without_cast
