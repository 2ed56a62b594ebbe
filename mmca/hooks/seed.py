"""Randomness that survives resuming: mmengine's checkpoints hold no random generator's state."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import get_worker_info

from mmca.registry import HOOKS


def _seed(*key: int) -> None:
    """Seed python, numpy and torch (all devices) from a tuple of numbers."""
    # Hashed, so that neighboring iterations, ranks and seeds share no stream.
    value = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


class _SeededLoading:
    """Seeds a loading process for each batch by the batch's number, while it collates.

    Args:
        collate: What joins the samples of a batch.
        start: What a new loading process calls with its number, or None.
    """

    def __init__(self, collate: Callable, start: Callable | None) -> None:
        self._collate = collate
        self._start = start
        self.key: tuple[int, ...] = ()  # numbers that all batches share
        self.batch = 0  # number of the first batch that new processes will load

    def start(self, worker_id: int) -> None:
        """Begin in a new process; batches go round the processes in turn."""
        if self._start is not None:
            self._start(worker_id)
        self.batch += worker_id
        _seed(*self.key, self.batch)

    def __call__(self, samples: list) -> Any:
        batch = self._collate(samples)
        self.batch += get_worker_info().num_workers
        _seed(*self.key, self.batch)
        return batch


@HOOKS.register_module()
class SeedHook(Hook):
    """Make all randomness of training a function of seed, rank and iteration.

    A run that was stopped and resumed from a checkpoint then sees the same augmentations, drop
    paths and samples as one that ran through on as many processes. The kernels must be
    deterministic for the same digits, as PyTorch's on CPU are; see `randomness` for CUDA.

    Loading in processes (`num_workers` > 0) is covered for `IterBasedTrainLoop`, and for
    `EpochBasedTrainLoop` with `persistent_workers=False`: a process that outlives its epoch
    cannot be told where the next one begins.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what this epoch, or this whole run in iterations, will load."""
        loader = runner.train_loop.dataloader
        # The seed is the checkpoint's after a resume, the samplers' is from before.
        sampler = loader.batch_sampler.sampler
        if hasattr(sampler, 'seed') and not runner.cfg.get('randomness', {}).get('diff_rank_seed'):
            sampler.seed = runner.seed
        _seed(runner.seed, get_rank(), 0, runner.iter)
        if not loader.num_workers:
            return
        if not isinstance(loader.collate_fn, _SeededLoading):
            loader.collate_fn = _SeededLoading(loader.collate_fn, loader.worker_init_fn)
            loader.worker_init_fn = loader.collate_fn.start
        loader.collate_fn.key = (runner.seed, get_rank(), 1)
        loader.collate_fn.batch = runner.iter

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model and its losses draw."""
        _seed(runner.seed, get_rank(), 0, runner.iter)
