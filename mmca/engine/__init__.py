"""The run: mmengine's Runner with safe loading, our hooks and checks, and one-line errors.

Importing this package registers loaders with mmengine that execute nothing, see
`mmca.checkpoint.safe_loading`. The shipped configs name it in `custom_imports`.
"""

from mmca.checkpoint import safe_loading
from mmca.engine.check_hook import CheckHook
from mmca.engine.checkpoint_hook import CheckpointHook
from mmca.engine.hooks import (
    FiniteLossHook,
    PreemptionHook,
    ResumeHook,
    SeedHook,
    ThroughputHook,
)
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
