"""Attention as pure functions of tensors. Needs torch only.

`mmca.ops.naive` has the dense form of each under the same name.
"""

from mmca.ops.backend import choose_backend, use_backend
from mmca.ops.circulant import (
    circulant_attention,
    circulant_attention_reference,
    circulant_kernel,
    circulant_self_attention,
)
from mmca.ops.focused_linear import focused_linear_attention
from mmca.ops.windowed_circulant import windowed_circulant_attention

__all__ = [
    'choose_backend',
    'circulant_attention',
    'circulant_attention_reference',
    'circulant_kernel',
    'circulant_self_attention',
    'focused_linear_attention',
    'use_backend',
    'windowed_circulant_attention',
]
