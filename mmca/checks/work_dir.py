"""The folder for logs and checkpoints: whether files can be written there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mmca.errors import InputError


def check_work_dir(work_dir: str) -> None:
    """Make the folder and write a file in it.

    Args:
        work_dir: the folder.

    Raises:
        InputError: it is a file, or nothing can be written there.
    """
    folder = Path(work_dir)
    # Only writing tells: a user's rights say nothing of quotas, full disks and read-only mounts.
    probe = folder / '.mmca_can_write'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b'yes')
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        raise InputError(
            f'work dir {work_dir}: cannot write there ({error.strerror}); '
            'name another folder with --work-dir'
        ) from error
