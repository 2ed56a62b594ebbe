"""Resume at the exact iteration, even within an epoch or before a validation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mmca.errors import warn
from mmca.registry import HOOKS

VALIDATED = 'validated_iter'  # in the message hub: when the model was last validated
EXTENT = 'extent'  # in a checkpoint's meta: what decides on iterations and learning rates
RATES = ('optim_wrapper', 'param_scheduler', 'auto_scale_lr')  # settings


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

    mmengine restarts the epoch and skips an interrupted validation. This hook skips the batches
    that the run has already seen, without loading them, and runs the validation.

    If the number of images, batch size, processes, epochs, the optimizer or the schedule has
    changed, it resumes after the same fraction of the epoch, with the learning rate of the new
    settings.
    """

    priority = 'LOWEST'  # the others must be ready for a validation

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adapt a checkpoint to this run.

        Paths point at this work dir: `CheckpointHook` must not remove files of its original.
        """
        info = checkpoint.get('message_hub', {}).get('runtime_info', {})
        if info and runner.cfg.get('resume'):
            _adapt(runner, checkpoint, info)
        for key in [key for key in info if key.startswith(('best_ckpt', 'last_ckpt'))]:
            local = os.path.join(runner.work_dir, os.path.basename(str(info[key])))
            if os.path.isfile(local):
                info[key] = local

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record the extent of the training."""
        checkpoint['meta'][EXTENT] = _extent(runner)

    def before_train(self, runner: Runner) -> None:
        """Skip the batches already seen, or run the validation that is due."""
        done = batches_done(runner)
        if done:
            runner.logger.info(f'resuming after {done} batches of epoch {runner.epoch + 1}')
            loader = runner.train_loop.dataloader
            # DataLoader refuses a new sampler for the sake of its iterators; it has none yet.
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


def _extent(runner: Runner) -> dict[str, int | str | None]:
    loop = runner.train_loop
    dataset, sampler = loop.dataloader.dataset, loop.dataloader.batch_sampler
    return {
        'images': len(dataset) if hasattr(dataset, '__len__') else None,
        'batch_size': getattr(sampler, 'batch_size', None),
        'processes': get_world_size(),
        'max_epochs': loop.max_epochs,
        'max_iters': loop.max_iters,
        **{key: str(runner.cfg.get(key)) for key in RATES},
    }


def _adapt(runner: Runner, checkpoint: dict, info: dict) -> None:
    """Move a checkpoint to the same place in a training of another extent, and report it."""
    meta, loop, new = checkpoint['meta'], runner.train_loop, _extent(runner)
    # mmengine itself records the last two, so checkpoints of any run have them.
    old = {**new, **{key: info[key] for key in new if key in info}, **meta.get(EXTENT, {})}
    changed = [key for key in new if old[key] != new[key]]
    if not changed:
        return
    before = meta['iter']
    if isinstance(loop, EpochBasedTrainLoop):
        length = old['max_iters'] // old['max_epochs']
        done = (before - meta['epoch'] * length) * len(loop.dataloader) // length
        meta['iter'] = meta['epoch'] * len(loop.dataloader) + done
    if info.get(VALIDATED) == before:
        info[VALIDATED] = meta['iter']
    schedule = ''
    if {'max_epochs', 'max_iters', *RATES} & {*changed}:
        schedule = _reschedule(runner, checkpoint)
    if is_main_process():
        changes = ', '.join(
            f'{key} changed' if key in RATES else f'{key} {old[key]} -> {new[key]}'
            for key in changed
        )
        warn(
            f'resume: {changes}: resuming at iteration {meta["iter"]} (saved at '
            f'{before}){schedule}; results will differ from an uninterrupted run'
        )


def _reschedule(runner: Runner, checkpoint: dict) -> str:
    """Give a checkpoint the rates that this run's own schedule has at the checkpoint's place.

    Returns:
        What to add to the warning.
    """
    several = isinstance(runner.param_schedulers, dict)  # one list per optimizer
    groups = runner.param_schedulers if several else {'': runner.param_schedulers or []}
    own = [scheduler for schedulers in groups.values() for scheduler in schedulers]
    if any(hasattr(scheduler, 'need_val_args') for scheduler in own):
        return ' with the old schedule, because it depends on a metric'
    meta, length = checkpoint['meta'], len(runner.train_loop.dataloader)
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the optimizer makes no steps
        for step in range(1, meta['iter'] + 1):
            for scheduler in own:
                epoch_ends = by_epoch and step % length == 0 and step // length <= meta['epoch']
                if not scheduler.by_epoch or epoch_ends:
                    scheduler.step()
    checkpoint.pop('param_schedulers', None)  # the stepped ones stay
    for name in groups:
        wrapper = runner.optim_wrapper[name] if several else runner.optim_wrapper
        state = checkpoint['optimizer'][name] if several else checkpoint['optimizer']
        if wrapper.base_param_settings is not None:
            state['base_param_settings'] = wrapper.base_param_settings
        current = wrapper.optimizer.param_groups
        for group, new in zip(state['param_groups'], current):
            group.update({key: value for key, value in new.items() if key != 'params'})
    return ''
