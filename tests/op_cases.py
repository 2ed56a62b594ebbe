"""One small input of every op that has a backward pass of its own."""

from functools import partial

import torch
from torch import Tensor

from mmca.ops import circulant_attention, circulant_self_attention, focused_linear_attention

TOKENS = (2, 35, 8)
OPS = {
    'circulant_attention': (partial(circulant_attention, hw_shape=(5, 7)), [TOKENS] * 3),
    'keys': (
        lambda q, k, v, b: circulant_attention(q, k, v, (5, 7), 4, key_logits=b),
        [*[TOKENS] * 3, (2, 2, 35)],
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
