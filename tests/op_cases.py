"""One small input of every op that has a backward pass of its own."""

from functools import partial

import torch
from torch import Tensor

from mmca.ops import (
    circulant_attention,
    circulant_self_attention,
    focused_linear_attention,
    gated_projection,
    layer_norm,
    mlp,
    window_attention,
)

SIZES = {
    'tokens': (2, 35, 8),
    'square': (8, 8),
    'wide': (24, 8),
    'tall': (8, 24),
    'vector': (8,),
    'long': (24,),
    'windows': (5, 9, 8),
    'bias': (2, 9, 9),
}
OPS = {
    'circulant_attention': (partial(circulant_attention, hw_shape=(5, 7)), ['tokens'] * 3),
    'circulant_self_attention': (
        partial(circulant_self_attention, hw_shape=(5, 7)),
        ['tokens', 'wide'],
    ),
    'focused_linear_attention': (
        lambda q, k, v, s: focused_linear_attention(q, k, v, s.exp(), num_heads=2),
        [*['tokens'] * 3, 'vector'],
    ),
    'gated_projection': (
        gated_projection,
        ['tokens', 'tokens', 'square', 'vector', 'square', 'vector'],
    ),
    'layer_norm': (partial(layer_norm, eps=1e-6), ['tokens', 'vector', 'vector']),
    'mlp': (mlp, ['tokens', 'wide', 'long', 'tall', 'vector']),
    'window_attention': (
        partial(window_attention, masks=[(5, None)]),
        ['windows', 'wide', 'long', 'square', 'vector', 'bias'],
    ),
}
# They compute in float32 at least, whatever autocast says.
FULL_PRECISION = ('circulant_attention', 'circulant_self_attention', 'focused_linear_attention')


def inputs(name: str) -> list[Tensor]:
    """Tensors for OPS[name], float32, which need gradients; tokens in the op's own layout."""
    torch.manual_seed(0)
    tensors = [torch.randn(SIZES[size]) for size in OPS[name][1]]
    if name in ('layer_norm', 'gated_projection'):
        tensors[0] = tensors[0].mT.contiguous().mT
    return [t.requires_grad_() for t in tensors]
