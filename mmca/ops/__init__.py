"""Pure functions on tensors: attention in its circulant and focused linear form, and the parts of
a block whose plain form is slow or keeps too much. torch only.
"""

from mmca.ops.layout import channels_first
from mmca.ops.circulant import circulant_attention, circulant_kernel, circulant_self_attention
from mmca.ops.focused_linear import focused_linear_attention
from mmca.ops.gated_projection import gated_projection
from mmca.ops.layer_norm import layer_norm
from mmca.ops.mlp import mlp
from mmca.ops.window_attention import window_attention

__all__ = [
    'channels_first',
    'circulant_attention',
    'circulant_kernel',
    'circulant_self_attention',
    'focused_linear_attention',
    'gated_projection',
    'layer_norm',
    'mlp',
    'window_attention',
]
