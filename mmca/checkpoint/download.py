"""Download files into torch's hub cache."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate, parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import torch

from mmca.errors import InputError

MAX_BYTES = 2**31
TIMEOUT = 30.0  # seconds without an answer, or of less than MIN_RATE
MIN_RATE = 1024  # bytes a second
TRIES = 5
CHUNK = 2**20  # bytes
LOCK = '.mmca.lock'
RECORD = re.compile(r'([0-9a-f]{64})  .+\n# (.+)\n')  # `sha256sum --check` reads it, too


def cache_folder() -> Path:
    """The folder of downloaded weights: torch's cache, which TORCH_HOME moves."""
    return Path(torch.hub.get_dir(), 'checkpoints')


def download(
    address: str,
    name: str = '',
    sha256: str = '',
    mirror: str = '',
    max_bytes: int = MAX_BYTES,
    timeout: float = TIMEOUT,
) -> Path:
    """Download a file to :func:`cache_folder` unless it is already there.

    Interrupted downloads resume, immediately or in the next call, if the file on the server has not
    changed. NAME.sha256 next to the file contains its SHA-256, which every use verifies. A file
    that you copy there yourself only needs the right `sha256`.

    Args:
        address: http or https; proxies come from the environment, as for Python's urllib.
        name: of the file in the cache; default: the last part of the address.
        sha256: the hash or its first digits, if known.
        mirror: an address to download from instead.
        max_bytes: largest size of the file.
        timeout: seconds to wait for the server.

    Returns:
        The file.

    Raises:
        InputError: the download fails, or the file is too large or not the expected one.
    """
    name = name or PurePosixPath(unquote(urlsplit(address).path)).name
    if name in ('', '..'):
        raise InputError(f'{address} does not end in a file name')
    path, source = cache_folder() / name, mirror or address
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _one_process(path.parent):
                if not path.is_file():  # another process may have downloaded it
                    _fetch(source, path, sha256, max_bytes, timeout)
        except (OSError, ValueError, HTTPException) as error:
            code = f'{error.code} ' if isinstance(error, HTTPError) else ''
            reason = ' '.join(f'{code}{getattr(error, "reason", None) or error}'.split())
            raise InputError(
                f'cannot download {source}: {reason}; download the file yourself and save it as '
                f'{path}'
            ) from error
    _check(path, sha256, address)
    return path


def _fetch(address: str, path: Path, sha256: str, max_bytes: int, timeout: float) -> None:
    """Download to NAME.part, which stays after a failure, and rename it."""
    part = path.with_name(f'{path.name}.part')
    for tries_left in reversed(range(TRIES)):
        size = part.stat().st_size if part.is_file() else 0
        try:
            _receive(address, part, size, max_bytes, timeout)
            break
        except ValueError:  # too large
            part.unlink(missing_ok=True)
            raise
        except HTTPError as error:
            if error.code != 416 or not size:  # the part is complete: killed before the renaming
                raise
            part.unlink()
        except (OSError, HTTPException):
            if not tries_left or not part.is_file() or part.stat().st_size <= size:
                raise
    digest = _digest(part)
    if not digest.startswith(sha256):
        part.unlink()
        raise ValueError(f'its SHA-256 begins with {digest[: len(sha256)]}, not {sha256}')
    part.replace(path)


def _receive(address: str, part: Path, size: int, max_bytes: int, timeout: float) -> None:
    """Receive a file, or what follows its first `size` bytes."""
    headers = {'User-Agent': 'mmca'}
    if size:  # the date identifies the version of the part
        date = formatdate(int(part.stat().st_mtime), usegmt=True)
        headers.update({'Range': f'bytes={size}-', 'If-Range': date})
    with urlopen(Request(address, headers=headers), timeout=timeout) as answer:
        if answer.headers.get_content_type() == 'text/html':
            raise ConnectionError('the server sent a web page instead')
        size = size if answer.status == 206 else 0
        length = answer.headers['Content-Length']
        total = size + int(length) if length else None
        if total and total > max_bytes:
            raise ValueError(f'it has {total} bytes, more than the limit of {max_bytes}')
        date = answer.headers['Last-Modified']
        modified = parsedate_to_datetime(date).timestamp() if date else 0
        with open(part, 'r+b' if size else 'wb') as file, _progress(part.stem, total) as show:
            file.seek(size)
            since, received = time.monotonic(), 0
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                file.flush()
                os.utime(part, (modified, modified))
                size, received = size + len(chunk), received + len(chunk)
                if size > max_bytes:
                    raise ValueError(f'it exceeds the limit of {max_bytes} bytes')
                show(size)
                if time.monotonic() - since > timeout:
                    if received < MIN_RATE * timeout:
                        raise TimeoutError(f'only {received} bytes in {timeout:g} seconds')
                    since, received = time.monotonic(), 0
    if total and size != total:
        raise ConnectionError(f'the connection closed after {size} of {total} bytes')


def _check(path: Path, sha256: str, address: str) -> None:
    """Compare a file with its known hash and with the record beside it, and write a record."""
    digest, record = _digest(path), path.with_name(f'{path.name}.sha256')
    found = RECORD.fullmatch(record.read_text()) if record.is_file() else None
    if found and found[2] != address:
        raise InputError(f'{path} is from {found[2]}, not {address}: move or delete it')
    for expected in (sha256, found[1] if found else ''):
        if not digest.startswith(expected):
            raise InputError(
                f'{path} is damaged or a different file: its SHA-256 begins with {digest[:8]}, not '
                f'{expected[:8]}; delete it and {record.name}'
            )
    if not found:
        with suppress(OSError):  # others' cache may be read-only
            record.write_text(f'{digest}  {path.name}\n# {address}\n')


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _one_process(folder: Path) -> Iterator[None]:
    """Let one process at a time download to a folder; the system frees a dead one's lock."""
    with open(folder / LOCK, 'ab') as file:
        if os.name == 'nt':
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(name: str, total: int | None) -> Iterator:
    """A function that shows the received bytes, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    of, shown = f' of {total / 2**20:.0f}' if total else '', 0.0

    def show(size: int) -> None:
        nonlocal shown
        if size == total or time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            print(f'\r{name}: {size / 2**20:.0f}{of} MB', end='', file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print(file=sys.stderr)
