"""Analyze the cost and the attention of backbones."""

from mmca.analysis.block_shares import (
    BlockShare,
    explained_shares,
    measure_blocks,
)
from mmca.analysis.flops import FlopReport, block_macs, count_flops, count_parts
from mmca.analysis.maps import (
    AttentionInput,
    attention_inputs,
    attention_maps,
    attention_matrices,
    bccb_kernel,
    equivalent_kernels,
    normalized_entropy,
    recorded_inputs,
)

__all__ = [
    'AttentionInput',
    'BlockShare',
    'FlopReport',
    'attention_inputs',
    'attention_maps',
    'attention_matrices',
    'bccb_kernel',
    'block_macs',
    'count_flops',
    'count_parts',
    'equivalent_kernels',
    'explained_shares',
    'measure_blocks',
    'normalized_entropy',
    'recorded_inputs',
]
