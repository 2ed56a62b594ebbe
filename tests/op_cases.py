"""One small input of every op, and its comparison."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from mmca.ops import (
    circulant_attention,
    circulant_self_attention,
    focused_linear_attention,
    windowed_circulant_attention,
)

TOKENS = (2, 35, 8)
OPS = {
    'circulant_attention': (partial(circulant_attention, hw_shape=(5, 7)), [TOKENS] * 3),
    'keys': (
        lambda q, k, v, b: circulant_attention(q, k, v, (5, 7), 4, key_logits=b),
        [*[TOKENS] * 3, (2, 2, 35)],
    ),
    'windows': (
        lambda q, k, v: windowed_circulant_attention(q, k, v, (5, 7), 4, window_size=3),
        [TOKENS] * 3,
    ),
    'circulant_self_attention': (
        partial(circulant_self_attention, hw_shape=(5, 7)),
        [TOKENS, (24, 8)],
    ),
    'focused_linear_attention': (
        lambda q, k, v, s: focused_linear_attention(q, k, v, s.exp(), num_heads=2),
        [*[TOKENS] * 3, (8,)],
    ),
}


def inputs(name: str) -> list[Tensor]:
    """Tensors for OPS[name], float32, which need gradients."""
    torch.manual_seed(0)
    return [torch.randn(size).requires_grad_() for size in OPS[name][1]]


def outputs_and_gradients(function: Callable, tensors: Sequence[Tensor], *args) -> list[Tensor]:
    """The output, and the gradients of a fixed random functional of it."""
    tensors = [x.detach().requires_grad_() for x in tensors]
    out = function(*tensors, *args)
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    return [out, *torch.autograd.grad(out, tensors, weight)]


def assert_close(
    found: list[Tensor], expected: list[Tensor], tolerance: float, share: float = 0.0
) -> None:
    """Errors relative to each tensor's largest magnitude, or a share of the largest gradient's.

    Where there is nothing to choose (one token, one key), gradients of q and k are all but zero.
    """
    largest = max(e.abs().max().item() for e in expected[1:])
    for value, exact in zip(found, expected, strict=True):
        bound = tolerance * max(exact.abs().max().item(), share * largest, 1e-3)
        assert (value.double() - exact).abs().max().item() <= bound
