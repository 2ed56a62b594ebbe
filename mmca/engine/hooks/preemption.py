"""A checkpoint when the scheduler takes the machine away."""

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
from mmengine.runner import Runner

from mmca.registry import HOOKS

CHECKPOINT = 'preempted.pth'
EXIT_CODE = 128 + signal.SIGTERM  # 143, as of a process that the signal itself ends
# A launcher passes a signal on to processes that may have had it from its sender.
SAME_SIGNAL = 3.0  # seconds


def _write_error(line: str) -> None:
    os.write(2, f'{line}\n'.encode())  # print may not be entered again from a signal handler


def _obey_parent_alone(init: Callable | None, worker_id: int) -> None:
    """Start a loading process that a SIGTERM to all processes leaves at work.

    The training process needs it up to the end of the iteration, and ends it by SIGTERM.
    """
    if hasattr(signal, 'sigtimedwait'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if init is not None:
        init(worker_id)


def _end_with_parent() -> None:
    """End this process upon its parent's SIGTERM, or when the parent is no more.

    torch looks for the parent too, but then waits for somebody to read the last batch.
    """
    parent = parent_process().pid
    while os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, 5.0)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Upon SIGTERM write `preempted.pth` after the iteration, and end with exit code 143.

    `last_checkpoint` names the file, so that `--resume` goes on from it. It is overwritten by the
    next one. Another SIGTERM, at least three seconds later, ends the process at once.

    Several processes agree on the iteration, which costs one reduction of a number in each. During
    validation the first process writes the checkpoint and ends the run.

    Example (in a config):
        default_hooks = dict(preemption=dict(type='mmca.PreemptionHook'))
    """

    priority = 'LOWEST'  # after what makes an iteration complete, such as the schedulers' steps

    def __init__(self) -> None:
        self._asked: float | None = None  # when the signal came

    def before_train(self, runner: Runner) -> None:
        """Listen for the signal."""
        self._asked = None
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals to the main thread alone
        self._before = signal.signal(signal.SIGTERM, self._ask)
        loops = runner.train_loop, runner.val_loop
        for loader in (loop.dataloader for loop in loops if loop is not None):
            loader.worker_init_fn = partial(_obey_parent_alone, loader.worker_init_fn)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop where a process has been asked to.

        Raises:
            SystemExit: with code 143; the checkpoint is written.
        """
        asked = torch.tensor(self._asked is not None, dtype=torch.int)
        all_reduce(asked, 'max')
        # Gradients that wait for the next iterations are in no checkpoint.
        if asked and runner.optim_wrapper.should_update():
            _save(runner, runner.iter + 1)
            barrier()
            _end()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop where the first process has been asked to: nobody changes the weights.

        Raises:
            SystemExit: with code 143; the checkpoint is written.
        """
        if self._asked is not None and is_main_process():
            _save(runner, runner.iter)
            _end()

    def after_train(self, runner: Runner) -> None:
        """Leave the signal to whoever had it before."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            _write_error('SIGTERM: stopping after this iteration; again to stop at once')
        elif now - self._asked > SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _save(runner: Runner, iteration: int) -> None:
    meta = {'epoch': runner.epoch, 'iter': iteration}
    runner.save_checkpoint(runner.work_dir, CHECKPOINT, meta=meta, by_epoch=False)
    if is_main_process():
        path = join_path(runner.work_dir, CHECKPOINT)
        put(path.encode(), join_path(runner.work_dir, 'last_checkpoint'))
        _write_error(f'preempted: iteration {iteration} is saved in {path}; go on with --resume')


def _end() -> None:
    # A launcher ends the other processes as soon as the first is gone; all is done by now.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(EXIT_CODE)
