"""Rehearse a validation on one image, so that it does not fail after the first epoch."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from logging import Logger

import torch
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import Runner, ValLoop, autocast
from mmengine.structures import BaseDataElement

from mmca.errors import InputError

# Metrics that one image is enough for; others may need the whole data set.
PER_IMAGE = ('CocoMetric', 'IoUMetric', 'Accuracy', 'SingleLabelMetric', 'MultiLabelMetric')


def rehearse_validation(runner: Runner) -> None:
    """Predict, process and evaluate one image, and look up the metrics that hooks wait for.

    Model, random numbers and metrics stay as they are.

    Raises:
        InputError: a hook waits for a metric that no evaluator computes.
        Exception: whatever validation would raise.
    """
    loop = runner.val_loop
    if not isinstance(loop, ValLoop) or not hasattr(loop.dataloader.dataset, '__len__'):
        return
    evaluator, training = copy.copy(loop.evaluator), runner.model.training
    evaluator.metrics = [copy.copy(metric) for metric in evaluator.metrics]
    for metric in evaluator.metrics:
        metric.results = []
    try:
        with (
            _quiet(runner.logger),
            torch.random.fork_rng(),
            torch.no_grad(),
            autocast(enabled=loop.fp16),
        ):
            batch = loop.dataloader.collate_fn([loop.dataloader.dataset[0]])
            outputs = list(runner.model.eval().val_step(batch))
            if isinstance(outputs[-1], BaseDataElement) and outputs[-1].keys() == ['loss']:
                outputs.pop()
            evaluator.process(data_samples=outputs, data_batch=batch)
            if not all(type(metric).__name__ in PER_IMAGE for metric in evaluator.metrics):
                return
            for metric in evaluator.metrics:
                if hasattr(metric, 'img_ids'):  # of a COCO file
                    metric.img_ids = [output.img_id for output in outputs]
            found = evaluator.evaluate(len(outputs))
    except Exception as error:
        error.mmca_part = 'validation'
        raise
    finally:
        runner.model.train(training)
    for hook in runner.hooks:
        names = [hook.monitor] if isinstance(hook, EarlyStoppingHook) else []
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            names = [name for name in hook.key_indicators if name != 'auto']
        for name in names:
            if found and name not in found:  # CocoMetric returns nothing without detections
                raise InputError(
                    f'{type(hook).__name__} waits for the metric {name}, but the evaluator '
                    f'computes {", ".join(found)}'
                )


@contextmanager
def _quiet(logger: Logger) -> Iterator[None]:
    """Without the scores of one image on screen and in logs."""
    disabled, logger.disabled = logger.disabled, True
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.disabled = disabled
