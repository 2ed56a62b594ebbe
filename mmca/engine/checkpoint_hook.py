"""Write complete checkpoints, and find the one to resume from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from mmca.checkpoint import read_checkpoint
from mmca.errors import InputError, warn
from mmca.registry import HOOKS

LAST = 'last_checkpoint'


class _LateRemoval:
    """A file backend that collects removals, to be carried out later."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._removals: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._removals.add(path)

    def flush(self, kept: set) -> None:
        """Remove what was collected, except for files that were written again."""
        for path in self._removals - kept:
            self._backend.remove(path)
        self._removals.clear()


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's CheckpointHook, but it removes old checkpoints only after writing the new one.

    If a run dies in between, it leaves an extra checkpoint instead of none. `mmca.Runner` writes
    each file atomically. Takes the same arguments as mmengine's hook.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose the folder."""
        super().before_train(runner)
        self.file_backend = _LateRemoval(self.file_backend)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save a checkpoint where one is due."""
        super().after_train_epoch(runner)
        self._remove_old()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint where one is due."""
        super().after_train_iter(runner, *args, **kwargs)
        self._remove_old()

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint."""
        super().after_val_epoch(runner, metrics)
        self._remove_old()

    def _remove_old(self) -> None:
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.flush({self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best})


def find_last(work_dir: str | Path) -> str | None:
    """Find the checkpoint that `last_checkpoint` names, or else the newest that can be resumed.

    In a moved work dir `last_checkpoint` names a file in the old place; the file of that name in
    the work dir takes precedence.

    Returns:
        The file, or an address; None, with a warning, if the work dir has no checkpoint.

    Raises:
        InputError: none of the checkpoints can be resumed.
    """
    work_dir = Path(work_dir).absolute()
    record = work_dir / LAST
    named = record.read_text(errors='replace').strip() if record.is_file() else ''
    if '://' in named:
        return named
    first = [path for path in (work_dir / os.path.basename(named), Path(named)) if path.is_file()]
    by_age = sorted(work_dir.glob('*.pth'), key=os.path.getmtime, reverse=True)
    files = list(dict.fromkeys([*first, *by_age]))
    for file in files:
        try:
            content = read_checkpoint(file)
        except InputError as error:
            warn(f'resume: {error}')
            continue
        if file in first or 'optimizer' in content.skipped:
            if named and str(file) != named:
                warn(f'resume: {record} names {named}; resuming from {file}')
            return str(file)
    if named or files:
        raise InputError(
            f'resume: none of the checkpoints in {work_dir} can be resumed; '
            'start again without --resume'
        )
    warn(f'resume: no checkpoint in {work_dir}, training starts from the beginning')
    return None
