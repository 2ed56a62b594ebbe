"""The small parts of a training, built to see whether they can be: hooks, optimizer, metrics."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


def build_parts(cfg: Config, library: str, model: nn.Module) -> None:
    """Build what a training builds besides model and data sets, and drop it.

    Args:
        cfg: the config.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        model: the model, on the meta device.

    Raises:
        Exception: whatever the first part raises that cannot be built.
    """
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DefaultScope

    registry = import_module(f'{library}.registry')
    with DefaultScope.overwrite_default_scope(library):
        # Hooks ask for the last one that was built. Its backends would make folders.
        visualizer = {'type': 'Visualizer', **(cfg.get('visualizer') or {})}
        registry.VISUALIZERS.build({**visualizer, 'vis_backends': None, 'name': 'mmca check'})
        hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
        for hook in copy.deepcopy(hooks):
            if isinstance(hook, Mapping) and 'type' in hook:
                hook.pop('priority', None)
                registry.HOOKS.build(hook)
        optimizer = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper)).optimizer
        schedulers = cfg.get('param_scheduler') or []
        for scheduler in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
            registry.PARAM_SCHEDULERS.build(
                copy.deepcopy(scheduler), default_args=dict(optimizer=optimizer, epoch_length=1)
            )
        evaluators = cfg.get('val_evaluator') or []
        for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            registry.METRICS.build(copy.deepcopy(evaluator))
