"""Imported by trainings that are to be stopped: tells what they do, and slows their disk down.

MMCA_PHASES names the file that says what the run is doing, MMCA_SLOW_DISK the seconds that writing
a file takes.
"""

import builtins
import os
import time
from pathlib import Path

from mmengine.fileio.backends import local_backend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmca.config import atomic_saves

CHUNKS = 20
phase = 'start'


def enter(name):
    """Say what the run does from now on; returns what it did before."""
    global phase
    before, phase = phase, name
    if os.environ.get('RANK', '0') == '0':
        part = Path(f'{os.environ["MMCA_PHASES"]}.part')
        part.write_text(name)
        part.replace(os.environ['MMCA_PHASES'])
    return before


class SlowFile:
    """A file that takes its time."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._before = enter('saving')
        return self

    def __exit__(self, *error):
        self._file.close()
        enter(self._before)

    def write(self, content):
        size = len(content) // CHUNKS + 1
        for start in range(0, len(content), size):
            self._file.write(content[start : start + size])
            self._file.flush()
            time.sleep(float(os.environ['MMCA_SLOW_DISK']) / CHUNKS)


def slow_open(path, mode='r', *args, **kwargs):
    file = builtins.open(path, mode, *args, **kwargs)  # noqa: SIM115
    return SlowFile(file) if 'w' in mode else file


atomic_saves.open = local_backend.open = slow_open


@HOOKS.register_module()
class PhaseHook(Hook):
    """Tells what the run is doing."""

    def before_train_iter(self, runner, *args, **kwargs):
        enter(f'training {runner.iter}')

    def before_val_epoch(self, runner):
        self._before = enter('validation')

    def after_val_epoch(self, runner, metrics=None):
        enter(self._before)
