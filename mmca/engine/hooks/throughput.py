"""Log training speed, and peak memory on CPUs."""

import sys
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmca.registry import HOOKS

try:
    import resource
except ImportError:  # on Windows
    resource = None


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log images per second over all processes.

    mmengine logs the peak memory of GPUs; without one, this hook logs the peak memory of the
    process, in MiB. It runs after `IterTimerHook`, whose time it uses, and before `LoggerHook`.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Update both figures."""
        hub = runner.message_hub
        if 'inputs' not in data_batch or 'train/time' not in hub.log_scalars:
            return
        images = len(data_batch['inputs']) * get_world_size()
        hub.update_scalar('train/images_per_s', images / hub.get_scalar('train/time').current())
        if resource is not None and not torch.cuda.is_available():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; on macOS bytes
            hub.update_scalar('train/memory', peak / (2**20 if sys.platform == 'darwin' else 2**10))
