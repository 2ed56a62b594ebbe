"""What a backbone costs, how its attention spreads, and how much of it is circulant."""

from mmca.analysis.circulant_share import (
    BlockShare,
    circulant_share,
    measure_blocks,
    recommend,
    stage_shares,
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
    'circulant_share',
    'count_flops',
    'count_parts',
    'equivalent_kernels',
    'measure_blocks',
    'normalized_entropy',
    'recommend',
    'recorded_inputs',
    'stage_shares',
]
