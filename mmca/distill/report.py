"""Errors of a student's maps, measured on held-out images and kept with its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmca.registry import HOOKS, METRICS

ERRORS = 'distillation_errors'  # in the message hub: iteration -> figures; 'calibrated' follows 0


@METRICS.register_module()
class DistillationError(BaseMetric):
    """Average what `Distiller` predicts over images.

    For every stage and output, 'NAME/error' is the relative error of the student's map and
    'NAME/cosine' its cosine with the teacher's; besides, 'mean/error' and 'mean/cosine'.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect the figures of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Average them."""
        means = {n: torch.tensor([r[n] for r in results]).mean().item() for n in results[0]}
        for kind in ('error', 'cosine'):
            values = [value for name, value in means.items() if name.endswith(kind)]
            means[f'mean/{kind}'] = sum(values) / len(values)
        return means


@HOOKS.register_module()
class DistillationReportHook(Hook):
    """Calibrate and validate before the first iteration, and keep all metrics in the message hub.

    Checkpoints contain the message hub, so a resumed run knows all metrics.

    Args:
        calibrate: number of images for calibration; 0 for no calibration.
    """

    priority = 'LOWEST'  # the other hooks must be ready for a validation

    def __init__(self, calibrate: int = 0) -> None:
        self.calibrate = calibrate

    def before_train(self, runner: Runner) -> None:
        """Measure the errors at the start and after calibration."""
        if runner.iter:
            return
        runner.val_loop.run()
        if self.calibrate:
            model = getattr(runner.model, 'module', runner.model)
            if is_main_process():
                model.calibrate(runner.train_loop.dataloader.dataset.middle_views(self.calibrate))
            for parameter in model.student.parameters():
                broadcast(parameter.data)
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Note the metrics."""
        known = runner.message_hub.runtime_info.get(ERRORS, {})
        key = runner.iter if runner.iter or not known else 'calibrated'
        runner.message_hub.update_info(ERRORS, {**known, key: dict(metrics or {})})


def before_and_after(errors: Mapping[int | str, Mapping[str, float]]) -> list[tuple[str, str, str]]:
    """Name, relative error and cosine of every map at the start and at the end."""
    first, last = (list(errors.values())[i] for i in (0, -1))
    return [
        (name, *(f'{first[key]:.3f} -> {last[key]:.3f}' for key in keys))
        for name in dict.fromkeys(key.rpartition('/')[0] for key in last)
        for keys in [(f'{name}/error', f'{name}/cosine')]
    ]
