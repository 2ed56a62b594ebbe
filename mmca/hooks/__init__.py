"""Hooks for mmengine's runner. Needs torch and mmengine."""

from mmca.hooks.seed import SeedHook

__all__ = ['SeedHook']
