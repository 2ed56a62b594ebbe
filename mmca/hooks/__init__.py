"""Hooks for mmengine's runner. Needs torch and mmengine."""

from mmca.hooks.finite_loss import FiniteLossHook
from mmca.hooks.seed import SeedHook

__all__ = ['FiniteLossHook', 'SeedHook']
