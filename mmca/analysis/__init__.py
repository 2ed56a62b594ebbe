"""What a backbone costs and how its attention spreads: multiply-adds, entropies."""

from mmca.analysis.entropy import attention_entropies, normalized_entropy
from mmca.analysis.flops import FlopReport, count_flops, dft_macs

__all__ = ['FlopReport', 'attention_entropies', 'count_flops', 'dft_macs', 'normalized_entropy']
