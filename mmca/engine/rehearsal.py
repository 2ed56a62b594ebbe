"""Rehearse a validation on one image, so that it does not fail after the first epoch."""

from __future__ import annotations

import copy
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from logging import Logger
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import Runner, ValLoop, autocast
from mmengine.structures import BaseDataElement

from mmca.errors import InputError

# Metrics that one image is enough for, and their subclasses; others may need the whole data set.
PER_IMAGE = {'CocoMetric', 'IoUMetric', 'Accuracy', 'SingleLabelMetric', 'MultiLabelMetric'}
# Where metrics write results: the attribute, and whether it is a folder.
RESULTS = {'outfile_prefix': False, 'out_file_path': False, 'output_dir': True}


def rehearse_validation(runner: Runner) -> None:
    """Predict, process and evaluate one image, and look up the metrics that hooks need.

    Model, random numbers and metrics stay as they are.

    Raises:
        InputError: a hook or scheduler needs a metric that no evaluator computes, or a folder
            of results or checkpoints cannot be written.
        Exception: whatever validation would raise.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and '://' not in (hook.out_dir or ''):
            _check_writable(hook, hook.out_dir or runner.work_dir)
    loop = runner.val_loop
    if not isinstance(loop, ValLoop) or not hasattr(loop.dataloader.dataset, '__len__'):
        return
    evaluator, training = copy.copy(loop.evaluator), runner.model.training
    evaluator.metrics = [copy.copy(metric) for metric in evaluator.metrics]
    try:
        with (
            _quiet(runner.logger),
            TemporaryDirectory() as folder,
            torch.random.fork_rng(),
            torch.no_grad(),
            autocast(enabled=loop.fp16),
        ):
            for index, metric in enumerate(evaluator.metrics):
                metric.results = []
                _redirect(metric, os.path.join(folder, str(index)))
            batch = loop.dataloader.collate_fn([loop.dataloader.dataset[0]])
            outputs = list(runner.model.eval().val_step(batch))
            if isinstance(outputs[-1], BaseDataElement) and outputs[-1].keys() == ['loss']:
                outputs.pop()
            evaluator.process(data_samples=outputs, data_batch=batch)
            known = [
                metric
                for metric in evaluator.metrics
                if PER_IMAGE & {kind.__name__ for kind in type(metric).__mro__}
            ]
            complete, evaluator.metrics = known == evaluator.metrics, known
            for metric in known:
                if hasattr(metric, 'img_ids'):  # of a COCO file
                    metric.img_ids = [output.img_id for output in outputs]
            found = evaluator.evaluate(len(outputs))
    except Exception as error:
        error.mmca_part = 'validation'
        raise
    finally:
        runner.model.train(training)
    if not found or not complete:  # CocoMetric returns nothing without detections
        return
    for user, name in _monitors(runner):
        if name not in found:
            raise InputError(
                f'{type(user).__name__} expects the metric {name}, but the evaluator computes '
                f'{", ".join(found)}'
            )


def _monitors(runner: Runner) -> Iterator[tuple[Any, str]]:
    """List the hooks and schedulers that wait for a metric, and its name."""
    groups = runner.param_schedulers or []
    for schedulers in groups.values() if isinstance(groups, dict) else [groups]:
        yield from ((one, one.monitor) for one in schedulers if hasattr(one, 'need_val_args'))
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook):
            yield hook, hook.monitor
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            yield from ((hook, name) for name in hook.key_indicators if name != 'auto')


def _redirect(metric: BaseMetric, folder: str) -> None:
    """Make a metric write its results to another folder; check that it can write to its own."""
    for name, is_folder in RESULTS.items():
        if path := getattr(metric, name, None):
            _check_writable(metric, path if is_folder else os.path.dirname(os.path.abspath(path)))
            setattr(metric, name, os.path.join(folder, os.path.basename(path)))
            os.makedirs(folder if not is_folder else getattr(metric, name), exist_ok=True)


def _check_writable(user: Any, folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f'{type(user).__name__} cannot write to {folder}: {error.strerror}'
        ) from error


@contextmanager
def _quiet(logger: Logger) -> Iterator[None]:
    """Keep the scores of one image off the screen and the logs."""
    disabled, logger.disabled = logger.disabled, True
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.disabled = disabled
