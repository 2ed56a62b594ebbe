"""Resume at the exact iteration, within an epoch or before a validation too."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mmca.registry import HOOKS

VALIDATED = 'validated_iter'  # in the message hub: when the model was last validated


def batches_done(runner: Runner) -> int:
    """Count the batches of the current epoch that training has seen; 0 in a loop of iterations."""
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop):
        return 0
    return loop.iter - loop.epoch * len(loop.dataloader)


class _LaterStart:
    """A batch sampler that skips batches in its first pass."""

    def __init__(self, whole: BatchSampler, done: int) -> None:
        self._whole = whole
        self._done = done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[list[int]]:
        # Not before the first batch: DataLoader makes iterators that it does not use.
        done, self._done = self._done, 0
        yield from islice(self._whole, done, None)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Resume where a checkpoint was written, not where its epoch began.

    mmengine repeats an epoch from its start and skips a validation that was interrupted. This hook
    skips the batches already seen, without loading them, and runs the validation.
    """

    priority = 'LOWEST'  # the others must be ready for a validation

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Point paths at this work dir: `CheckpointHook` must not remove files of its original."""
        info = checkpoint.get('message_hub', {}).get('runtime_info', {})
        for key in [key for key in info if key.startswith(('best_ckpt', 'last_ckpt'))]:
            local = os.path.join(runner.work_dir, os.path.basename(str(info[key])))
            if os.path.isfile(local):
                info[key] = local

    def before_train(self, runner: Runner) -> None:
        """Skip the batches already seen, or run the validation that is due."""
        done = batches_done(runner)
        if done:
            runner.logger.info(f'resuming after {done} batches of epoch {runner.epoch + 1}')
            loader = runner.train_loop.dataloader
            # DataLoader refuses a new sampler because of its iterators; there are none yet.
            object.__setattr__(loader, 'batch_sampler', _LaterStart(loader.batch_sampler, done))
        elif _validation_is_due(runner):
            runner.val_loop.run()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record a validation for the checkpoints written after it."""
        if batch_idx + 1 == len(runner.val_dataloader):
            runner.message_hub.update_info(VALIDATED, runner.iter)


def _validation_is_due(runner: Runner) -> bool:
    """Whether the loop was about to validate when it was stopped."""
    loop = runner.train_loop
    if runner.val_loop is None or not loop.iter:
        return False
    if isinstance(loop, EpochBasedTrainLoop):
        now, end = loop.epoch, loop.max_epochs
    else:
        now, end = loop.iter, loop.max_iters
    due = now >= loop.val_begin and (now % loop.val_interval == 0 or now == end)
    return due and runner.message_hub.runtime_info.get(VALIDATED) != loop.iter
