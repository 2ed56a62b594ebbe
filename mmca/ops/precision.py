"""The precision in which an op computes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else.

    Half-precision FFTs are rarely available (on CUDA only powers of two in float16, on CPUs none),
    and sums over all tokens of a large grid exceed the range of float16.
    """
    return dtype if dtype == torch.float64 else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which nothing is cast to half precision on this device."""
    if device.type == 'meta':  # which has no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def first_order_backward(backward: Callable) -> Callable:
    """A decorator for the backward pass of an autograd.Function: it runs without autocast.

    Autocast surrounds a backward pass under torch.compile and in a user's autocast context.
    Gradients of second order raise an error.
    """

    @once_differentiable
    @wraps(backward)
    def without_cast(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(grads[0].device):
            return backward(ctx, *grads)

    return without_cast
