"""Looking at models: parameters and multiply-adds."""

from mmca.analysis.flops import FlopReport, count_flops

__all__ = ['FlopReport', 'count_flops']
