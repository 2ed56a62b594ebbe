"""Stopping a training that is lost."""

import re
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmca.errors import InputError
from mmca.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """End training when the loss stays NaN or infinite.

    Single bad iterations pass, such as those whose steps GradScaler skips. The count is kept on
    the loss's device and read every `patience` iterations, so that GPUs are not made to wait.

    Args:
        patience: bad iterations in a row that end training.

    Example (in a config):
        custom_hooks = [dict(type='mmca.FiniteLossHook', patience=5)]
    """

    def __init__(self, patience: int = 5) -> None:
        if patience < 1:
            raise InputError(f'FiniteLossHook: patience must be at least 1, got {patience}')
        self.patience = patience
        self._bad: Tensor | None = None  # bad iterations in a row, up to now

    def before_train(self, runner: Runner) -> None:
        """Start counting."""
        self._bad = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Count; end training where the count is reached.

        Raises:
            InputError: the loss was not finite for `patience` iterations or more.
        """
        loss = (outputs or {}).get('loss')
        if not isinstance(loss, Tensor):
            return
        loss = loss.detach().sum()
        bad = torch.zeros_like(loss, dtype=torch.long) if self._bad is None else self._bad
        self._bad = torch.where(loss.isfinite(), 0, bad + 1)
        if (runner.iter + 1) % self.patience:
            return
        count = self._bad.item()
        if count < self.patience:
            return
        first = runner.iter + 2 - count
        raise InputError(
            f'the loss has been {loss.item()} since iteration {first} ({count} iterations); '
            f'{_last_good(runner, first)}; lower optim_wrapper.optimizer.lr, set '
            'optim_wrapper.clip_grad.max_norm=1, or train without --amp'
        )


def _last_good(runner: Runner, first_bad: int) -> str:
    """The newest checkpoint from before an iteration, in words."""
    good: dict[int, Path] = {}
    for path in Path(runner.work_dir).glob('*_*.pth'):
        found = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
        if found:
            unit = len(runner.train_dataloader) if found[1] == 'epoch' else 1
            good[int(found[2]) * unit] = path
    done = [iteration for iteration in good if iteration < first_bad]
    if not done:
        return 'no checkpoint is older than that'
    return f'the last good checkpoint is {good[max(done)]}, for --resume'
