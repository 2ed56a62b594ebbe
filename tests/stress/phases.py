"""Imported by trainings that are to be stopped: tells what they do, and slows their disk down.

MMCA_PHASES names the file that says what the run is doing, MMCA_SLOW_DISK the seconds that writing
a checkpoint takes.
"""

import os
import time
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

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


@register_backend('slow')
class SlowDisk(LocalBackend):
    """Writes files bit by bit."""

    def put(self, obj, filepath):
        before = enter('saving')
        size = len(obj) // CHUNKS + 1
        with open(filepath, 'wb', buffering=0) as file:
            for start in range(0, len(obj), size):
                file.write(obj[start : start + size])
                time.sleep(float(os.environ['MMCA_SLOW_DISK']) / CHUNKS)
        enter(before)


@HOOKS.register_module()
class PhaseHook(Hook):
    """Tells what the run is doing."""

    def before_train_iter(self, runner, *args, **kwargs):
        enter(f'training {runner.iter}')

    def before_val_epoch(self, runner):
        self._before = enter('validation')

    def after_val_epoch(self, runner, metrics=None):
        enter(self._before)
