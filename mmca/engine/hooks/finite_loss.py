"""Abort training when the loss diverges."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmca.checkpoint import read_checkpoint
from mmca.errors import InputError
from mmca.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Abort training when the loss stays NaN or infinite.

    The hook tolerates single bad iterations, such as steps that GradScaler skips. It counts on the
    device of the loss and reads the count only every `patience` iterations, so GPUs do not wait.

    Args:
        patience: number of consecutive bad iterations that aborts training.
    """

    def __init__(self, patience: int = 5) -> None:
        if patience < 1:
            raise InputError(f'FiniteLossHook: patience must be at least 1, got {patience}')
        self.patience = patience
        self._bad: Tensor | None = None  # bad iterations in a row, up to now
        self._loss: Tensor | None = None  # of the last iteration
        self._seen = 0  # iterations of this run

    def before_train(self, runner: Runner) -> None:
        """Start counting."""
        self._bad, self._seen = None, 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Count bad iterations; raises an `InputError` after `patience` in a row."""
        if not outputs or 'loss' not in outputs:
            return
        self._loss = loss = outputs['loss'].detach()
        bad = torch.zeros_like(loss, dtype=torch.long) if self._bad is None else self._bad
        self._bad = torch.where(loss.isfinite(), 0, bad + 1)
        self._seen += 1
        if (runner.iter + 1) % self.patience == 0:
            self._abort_if_bad(runner, runner.iter + 1, self.patience)

    def after_train(self, runner: Runner) -> None:
        """Check the iterations since the last check."""
        if self._bad is not None:
            self._abort_if_bad(runner, runner.iter, min(self.patience, self._seen))

    def _abort_if_bad(self, runner: Runner, done: int, patience: int) -> None:
        count = self._bad.item()
        if count < patience:
            return
        first = done + 1 - count
        raise InputError(
            f'the loss has been {self._loss.item()} since iteration {first} ({count} iterations); '
            f'{_last_good(runner, first)}; lower optim_wrapper.optimizer.lr, set '
            'optim_wrapper.clip_grad.max_norm=1, or train without --amp'
        )


def _last_good(runner: Runner, first_bad: int) -> str:
    """Name the newest checkpoint with finite weights from before an iteration."""
    for path in sorted(Path(runner.work_dir).glob('*.pth'), key=os.path.getmtime, reverse=True):
        with suppress(InputError):
            content = read_checkpoint(path)
            # A step can spoil the weights before a loss shows it.
            finite = all(value.isfinite().all() for value in content.tensors.values())
            if finite and content.meta.get('iter', first_bad) < first_bad:
                return f'the last good checkpoint is {path}'
    return 'no older checkpoint has finite weights'
