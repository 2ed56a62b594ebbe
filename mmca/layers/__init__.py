"""Attentions and blocks on a token grid. Needs torch only.

Every attention has forward(x: (B, N, C), hw_shape: (H, W)) -> (B, N, C), N = H * W.
"""

from mmca.layers.attention import (
    Attention,
    StageSpec,
    build_attention,
    register_attention,
    registered_attentions,
)
from mmca.layers.block import Block, DropPath, Mlp, ProjectingBlock
from mmca.layers.circulant import CirculantAttention
from mmca.layers.focused_linear import FocusedLinearAttention
from mmca.layers.global_attention import SelfAttention
from mmca.layers.keyed_circulant import KeyedCirculantAttention
from mmca.layers.patch_embed import PatchEmbed
from mmca.layers.spatial_reduction import SpatialReductionAttention
from mmca.layers.stripes import StripesAttention
from mmca.layers.window import WindowAttention
from mmca.layers.windowed_circulant import WindowedCirculantAttention

__all__ = [
    'Attention',
    'Block',
    'CirculantAttention',
    'DropPath',
    'FocusedLinearAttention',
    'KeyedCirculantAttention',
    'Mlp',
    'PatchEmbed',
    'ProjectingBlock',
    'SelfAttention',
    'SpatialReductionAttention',
    'StageSpec',
    'StripesAttention',
    'WindowAttention',
    'WindowedCirculantAttention',
    'build_attention',
    'register_attention',
    'registered_attentions',
]
