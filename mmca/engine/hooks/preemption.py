"""Write a checkpoint when the scheduler preempts the job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import parent_process
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.fileio import join_path, put
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmca.registry import HOOKS

CHECKPOINT = 'preempted.pth'
EXIT_CODE = 128 + signal.SIGTERM  # 143, as if the signal itself had ended the process
SAME_SIGNAL = 3.0  # seconds: a launcher may repeat a signal that its processes have received


def _write_error(line: str) -> None:
    os.write(2, f'{line}\n'.encode())  # a signal handler may not print while print runs


def _obey_parent_alone(init: Callable | None, worker_id: int) -> None:
    """Start a data loading process that ignores a SIGTERM sent to the whole process group.

    The training process needs it until the end of the iteration, then ends it by SIGTERM.
    """
    if hasattr(signal, 'sigtimedwait'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if init is not None:
        init(worker_id)


def _end_with_parent() -> None:
    """End this process after its parent's SIGTERM or death.

    torch watches the parent too, but then waits for a reader of the last batch.
    """
    parent = parent_process().pid
    while os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, 5.0)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM, write `preempted.pth` after the iteration and exit with status 143.

    `last_checkpoint` names the file, and `--resume` continues from it. The next preemption
    overwrites it. Another SIGTERM, at least three seconds later, kills the process immediately.

    Several processes agree on the iteration, which takes one reduction of a number per iteration.
    During validation, the first process writes the checkpoint and ends the run.
    """

    priority = 'LOWEST'  # after everything that completes an iteration, such as schedulers

    def __init__(self) -> None:
        self._asked: float | None = None  # when the signal came

    def before_train(self, runner: Runner) -> None:
        """Listen for the signal."""
        self._asked = None
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals only to the main thread
        self._before = signal.signal(signal.SIGTERM, self._ask)
        loops = runner.train_loop, runner.val_loop
        for loader in (loop.dataloader for loop in loops if loop is not None):
            loader.worker_init_fn = partial(_obey_parent_alone, loader.worker_init_fn)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop if a process has received the signal."""
        asked = torch.tensor(self._asked is not None, dtype=torch.int)
        all_reduce(asked, 'max')
        # Accumulated gradients are not part of a checkpoint.
        own = runner.optim_wrapper
        wrappers = own.values() if isinstance(own, OptimWrapperDict) else [own]
        if asked and all(wrapper.should_update() for wrapper in wrappers):
            _save(runner, runner.iter + 1)
            barrier()
            _end()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop if the first process has received the signal."""
        if self._asked is not None and is_main_process():
            _save(runner, runner.iter)
            _end()

    def after_train(self, runner: Runner) -> None:
        """Restore the previous handler."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            _write_error('SIGTERM: stopping after this iteration; send again to stop immediately')
        elif now - self._asked > SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _save(runner: Runner, iteration: int) -> None:
    meta = {'epoch': runner.epoch, 'iter': iteration}
    runner.save_checkpoint(runner.work_dir, CHECKPOINT, meta=meta, by_epoch=False)
    if is_main_process():
        path = join_path(runner.work_dir, CHECKPOINT)
        put(path.encode(), join_path(runner.work_dir, 'last_checkpoint'))
        _write_error(f'preempted: iteration {iteration} is saved in {path}; continue with --resume')


def _end() -> None:
    # A launcher ends the other processes as soon as the first is gone; all work is done by now.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(EXIT_CODE)
