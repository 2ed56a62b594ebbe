"""mmengine's Runner with safe loading, mmca's hooks and checks, and one-line errors.

Importing this package registers safe loaders with mmengine, see `mmca.engine.safe_loading`. Shipped
configs list it in `custom_imports`.
"""

from mmca.engine import safe_loading
from mmca.engine.check_hook import CheckHook
from mmca.engine.checkpoint_hook import CheckpointHook
from mmca.engine.hooks.finite_loss import FiniteLossHook
from mmca.engine.hooks.preemption import PreemptionHook
from mmca.engine.hooks.resume import ResumeHook
from mmca.engine.hooks.seed import SeedHook
from mmca.engine.hooks.throughput import ThroughputHook
from mmca.engine.optim import OptimWrapperConstructor
from mmca.engine.runner import Runner

__all__ = [
    'CheckHook',
    'CheckpointHook',
    'FiniteLossHook',
    'OptimWrapperConstructor',
    'PreemptionHook',
    'ResumeHook',
    'Runner',
    'SeedHook',
    'ThroughputHook',
]

safe_loading.install()
