"""Attention as pure functions on tensors. Needs torch only."""

from mmca.ops.circulant import circulant_attention

__all__ = ['circulant_attention']
