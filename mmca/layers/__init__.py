"""Attention layers and blocks, forward(x: (B, N, C), hw_shape: (H, W)). Needs torch only."""

from mmca.layers.blocks import Block, DropPath, Mlp, TokenNorm
from mmca.layers.circulant_attention import CirculantAttention
from mmca.layers.focused_linear_attention import FocusedLinearAttention
from mmca.layers.softmax_attention import (
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
