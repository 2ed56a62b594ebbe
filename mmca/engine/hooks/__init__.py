"""Hooks for mmengine's runner. Needs torch and mmengine."""

from mmca.engine.hooks.finite_loss import FiniteLossHook
from mmca.engine.hooks.preemption import PreemptionHook
from mmca.engine.hooks.resume import ResumeHook
from mmca.engine.hooks.seed import SeedHook
from mmca.engine.hooks.throughput import ThroughputHook

__all__ = ['FiniteLossHook', 'PreemptionHook', 'ResumeHook', 'SeedHook', 'ThroughputHook']
