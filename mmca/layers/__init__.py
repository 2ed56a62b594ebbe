"""Attention layers and blocks, forward(x: (B, N, C), hw_shape: (H, W)). Needs torch only."""

from mmca.layers.block import Block, DropPath, Mlp, TokenNorm
from mmca.layers.circulant import CirculantAttention
from mmca.layers.focused_linear import FocusedLinearAttention
from mmca.layers.window import (
    SelfAttention,
    SpatialReductionAttention,
    WindowAttention,
)

__all__ = [
    'Block',
    'CirculantAttention',
    'DropPath',
    'FocusedLinearAttention',
    'Mlp',
    'SelfAttention',
    'SpatialReductionAttention',
    'TokenNorm',
    'WindowAttention',
]
