"""Checkpoints that are whole or absent, whenever a run ends and however full the disk is.

mmengine deletes the checkpoints that it does not keep, writes the new one under its final name,
then writes `last_checkpoint`. A run that ends in between leaves part of a file, or a name of none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import IO, Any


@contextmanager
def replacing(path: str | Path, mode: str = 'wb') -> Iterator[IO]:
    """Open a file of another name, which takes the place of `path` once it is on the disk.

    Args:
        path: the file to write; it stays as it is until the end, and after an exception.
        mode: 'wb' or 'w'.

    Raises:
        OSError: the file cannot be written, for instance because the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, 'weights.pth')
        ...     with replacing(path) as file:
        ...         _ = file.write(b'weights')
        ...     path.read_bytes()
        b'weights'
    """
    part = f'{path}.part'  # always the same, so that killed runs do not pile up files
    try:
        with open(part, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(part)
        if isinstance(error, OSError):
            error.filename = str(path)  # which those of writing lack
        raise


class _LateRemoval:
    """A file backend that notes what to remove, for later."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.noted: list[tuple[Callable, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.noted.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.noted.append((self._backend.rmtree, path))


def _then_remove(save: Callable) -> Callable:
    """Make a method of `CheckpointHook` save first and remove older files after."""

    @wraps(save)
    def save_then_remove(hook: Any, *args: Any, **kwargs: Any) -> None:
        backend = hook.file_backend
        hook.file_backend = late = _LateRemoval(backend)
        try:
            save(hook, *args, **kwargs)
        finally:
            hook.file_backend = backend
        best = getattr(hook, 'best_ckpt_path_dict', {}).values()
        written = {hook.last_ckpt, getattr(hook, 'best_ckpt_path', None), *best}
        for remove, path in late.noted:
            if path not in written:
                remove(path)

    return save_then_remove


def _put(backend: Any, obj: bytes, filepath: str | Path) -> None:
    Path(filepath).parent.mkdir(parents=True, exist_ok=True)
    with replacing(filepath) as file:
        file.write(obj)


class _CheckedCv2:
    """OpenCV, whose `imwrite` returns False where a file cannot be written: here it raises."""

    def __init__(self, cv2: ModuleType) -> None:
        self._cv2 = cv2

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cv2, name)

    def imwrite(self, filename: str, img: Any) -> None:
        _put(None, self._cv2.imencode(Path(filename).suffix, img)[1].tobytes(), filename)


@contextmanager
def atomic_saves() -> Iterator[None]:
    """Let mmengine write local files and remove old checkpoints so that no moment is dangerous.

    It costs the space of one checkpoint more than `max_keep_ckpts` says, while one is written.
    """
    from mmengine.fileio import LocalBackend
    from mmengine.hooks import CheckpointHook, checkpoint_hook
    from mmengine.visualization import vis_backend

    own = [(LocalBackend, 'put', _put), (vis_backend, 'cv2', _CheckedCv2(vis_backend.cv2))]
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        own.append((CheckpointHook, name, _then_remove(getattr(CheckpointHook, name))))
    before = [(place, name, getattr(place, name)) for place, name, _ in own]
    for place, name, function in own:
        setattr(place, name, function)
    checkpoint_hook.open = replacing  # with which it writes `last_checkpoint`, and nothing else
    try:
        yield
    finally:
        del checkpoint_hook.open
        for place, name, function in before:
            setattr(place, name, function)
