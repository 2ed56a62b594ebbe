"""Errors of a student's maps, measured on held-out images and kept with its checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmca.registry import HOOKS, METRICS

ERRORS = 'distillation_errors'  # in the message hub: iteration -> figures


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
    """Validate before the first iteration, and keep all metrics in the message hub.

    Checkpoints contain the message hub, so a resumed run knows all metrics.
    """

    priority = 'LOWEST'  # the other hooks must be ready for a validation

    def before_train(self, runner: Runner) -> None:
        """Measure the start."""
        if runner.iter == 0:
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Note the metrics."""
        known = runner.message_hub.runtime_info.get(ERRORS, {})
        runner.message_hub.update_info(ERRORS, {**known, runner.iter: dict(metrics or {})})


def before_and_after(errors: Mapping[int, Mapping[str, float]]) -> list[tuple[str, str, str]]:
    """Name, relative error and cosine of every map before and after, from figures by iteration."""
    first, last = errors[min(errors)], errors[max(errors)]
    return [
        (name, *(f'{first[key]:.3f} -> {last[key]:.3f}' for key in keys))
        for name in dict.fromkeys(key.rpartition('/')[0] for key in last)
        for keys in [(f'{name}/error', f'{name}/cosine')]
    ]
