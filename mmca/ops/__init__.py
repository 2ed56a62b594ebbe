"""Pure functions on tensors: attentions, and the parts of a block that profit from a form of
their own. Needs torch only. `mmca.ops.naive` has the naive form of each under the same name.
"""

from mmca.ops.backend import choose_backend, set_backend, use_backend
from mmca.ops.circulant import circulant_attention, circulant_kernel, circulant_self_attention
from mmca.ops.focused_linear import focused_linear_attention
from mmca.ops.gated_projection import gated_projection
from mmca.ops.layer_norm import layer_norm
from mmca.ops.layout import channels_first
from mmca.ops.mlp import mlp
from mmca.ops.window_attention import window_attention

__all__ = [
    'channels_first',
    'choose_backend',
    'circulant_attention',
    'circulant_kernel',
    'circulant_self_attention',
    'focused_linear_attention',
    'gated_projection',
    'layer_norm',
    'mlp',
    'set_backend',
    'use_backend',
    'window_attention',
]
