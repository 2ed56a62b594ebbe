"""Randomness that survives resuming, without generator states in checkpoints."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, get_worker_info

from mmca.engine.hooks.resume import batches_done
from mmca.registry import HOOKS


def _seed(*key: int) -> None:
    """Seed python, numpy and torch (all devices) from a tuple of numbers."""
    # Hashed, so that neighboring iterations, ranks and seeds share no stream.
    value = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


class _SeededLoading:
    """Seeds a loading process for each batch by the batch's number, while it collates."""

    def __init__(self, loader: DataLoader) -> None:
        self._collate = loader.collate_fn
        self._start = loader.worker_init_fn
        self._sampler = loader.batch_sampler.sampler
        self._batches_per_pass = len(loader)
        self.key: tuple[int, ...] = ()  # numbers that all batches share
        self.batch = 0  # number of the first batch that new processes load
        self.done = 0  # batches of this pass that a resumed run skips

    def start(self, worker_id: int) -> None:
        """Begin in a new process; the processes take turns with the batches."""
        if self._start is not None:
            self._start(worker_id)
        # A finite sampler counts its passes. A loop of iterations starts new processes for each,
        # without telling a hook.
        passes = getattr(self._sampler, 'epoch', None)
        if passes is not None:
            self.batch = passes * self._batches_per_pass + self.done
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

    A run that was stopped and resumed sees the same augmentations, drop paths and samples as an
    uninterrupted one with the same number of processes. Bit-exact weights also need deterministic
    kernels, as on CPUs; for CUDA, see `randomness`.

    The hook supports loading processes (`num_workers` > 0) with `IterBasedTrainLoop`, and with
    `EpochBasedTrainLoop` if `persistent_workers=False`: a process that outlives its epoch does not
    know where the next one begins.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the loading of this epoch, or of a whole run in iterations."""
        loader = runner.train_loop.dataloader
        # After a resume the seed is the checkpoint's; the sampler was built before.
        sampler = loader.batch_sampler.sampler
        if hasattr(sampler, 'seed') and not runner.cfg.get('randomness', {}).get('diff_rank_seed'):
            sampler.seed = runner.seed
        _seed(runner.seed, get_rank(), 0, runner.iter)
        if not loader.num_workers:
            return
        if not isinstance(loader.collate_fn, _SeededLoading):
            loader.collate_fn = _SeededLoading(loader)
            loader.worker_init_fn = loader.collate_fn.start
        loader.collate_fn.key = (runner.seed, get_rank(), 1)
        loader.collate_fn.batch = runner.iter
        loader.collate_fn.done = batches_done(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the random numbers of the model and its losses."""
        _seed(runner.seed, get_rank(), 0, runner.iter)
