"""What was found in large files, remembered by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import mmca
from mmca.io import atomic_write

KEPT = 200  # entries, the newest


def recall(path: str, *context: Sequence) -> list[str] | None:
    """The findings on a file, if it is unchanged since.

    Args:
        path: the file.
        context: what else the findings depend on.

    Returns:
        The findings; None if there are none yet.
    """
    return _load().get(_key(path, context))


def remember(findings: list[str], path: str, *context: Sequence) -> None:
    """Note the findings on a file.

    Args:
        findings: what to remember.
        path: the file.
        context: as for :func:`recall`.
    """
    entries = {**_load(), _key(path, context): findings}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_file(), 'w') as file:
            json.dump(dict(list(entries.items())[-KEPT:]), file)
    except OSError:
        return  # without a cache folder the file is read again next time


def _file() -> Path:
    folder = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(folder, 'mmca', 'checked.json')


def _load() -> dict[str, list[str]]:
    try:
        content = json.loads(_file().read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _key(path: str, context: tuple) -> str:
    stat = os.stat(path)
    facts = (mmca.__version__, os.path.realpath(path), stat.st_size, stat.st_mtime_ns, context)
    return hashlib.sha256(repr(facts).encode()).hexdigest()
