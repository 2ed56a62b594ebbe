"""Imported by trainings to be stopped: writes what they do to MMCA_PHASES, and slows their disk."""

import os
import time
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

CHUNKS, SECONDS = 20, 0.5  # to write a checkpoint
phase = 'start'


def enter(name):
    """Note the current phase; returns the one before."""
    global phase
    before, phase = phase, name
    if os.environ.get('RANK', '0') == '0':
        part = Path(f'{os.environ["MMCA_PHASES"]}.part')
        part.write_text(name)
        part.replace(os.environ['MMCA_PHASES'])
    return before


@register_backend('slow')
class SlowDisk(LocalBackend):
    """Writes files in chunks."""

    def put(self, obj, filepath):
        before = enter('saving')
        size = len(obj) // CHUNKS + 1
        with open(filepath, 'wb', buffering=0) as file:
            for start in range(0, len(obj), size):
                file.write(obj[start : start + size])
                time.sleep(SECONDS / CHUNKS)
        enter(before)


@HOOKS.register_module()
class PhaseHook(Hook):
    """Notes what the run is doing."""

    def before_train_iter(self, runner, *args, **kwargs):
        enter(f'training {runner.iter}')

    def before_val_epoch(self, runner):
        self._before = enter('validation')

    def after_val_epoch(self, runner, metrics=None):
        enter(self._before)
