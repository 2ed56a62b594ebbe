"""Hooks for mmengine's runner. Needs torch and mmengine."""

from mmca.hooks.finite_loss import FiniteLossHook
from mmca.hooks.preemption import PreemptionHook
from mmca.hooks.resume import ResumeHook
from mmca.hooks.seed import SeedHook
from mmca.hooks.throughput import ThroughputHook

__all__ = ['FiniteLossHook', 'PreemptionHook', 'ResumeHook', 'SeedHook', 'ThroughputHook']
