"""The run: mmengine's Runner with safe loading, our hooks and checks, and errors in one line."""

from mmca.engine.hooks import (
    FiniteLossHook,
    PreemptionHook,
    ResumeHook,
    SeedHook,
    ThroughputHook,
)
from mmca.engine.optim import OptimWrapperConstructor

__all__ = [
    'FiniteLossHook',
    'OptimWrapperConstructor',
    'PreemptionHook',
    'ResumeHook',
    'SeedHook',
    'ThroughputHook',
]
