"""Pure functions on tensors: attention in circulant and in focused linear form. torch only."""

from mmca.ops.circulant import circulant_attention, circulant_kernel
from mmca.ops.focused_linear import focused_linear_attention

__all__ = ['circulant_attention', 'circulant_kernel', 'focused_linear_attention']
