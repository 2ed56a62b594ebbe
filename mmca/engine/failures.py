"""Errors of a run: one line during set-up, the traceback and a line of advice afterward.

1. `InputError`: its line, exit status 2.
2. Anything else raised before the first iteration: `error: TYPE: message`, exit status 2. The
   traceback goes to the log file.
3. Anything raised later: the traceback, then how to resume, exit status 1.

With MMCA_TRACEBACK=1 (`--traceback` of the commands) exceptions stay as they are.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch

from mmca.errors import InputError

TRACEBACK = 'MMCA_TRACEBACK'  # '1' asks for tracebacks; '0': a command of mmca, which has the flag
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FIRST_LINE = 'Traceback (most recent call last)'


def wants_traceback() -> bool:
    """Whether the user asked for tracebacks instead of one-line errors."""
    return os.environ.get(TRACEBACK) == '1'


def linked(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """Find an exception of a kind among an exception, its causes and its contexts.

    Args:
        error: the exception that was caught.
        kind: the class to look for.

    Returns:
        The nearest one, or None.
    """
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def describe(error: BaseException) -> str:
    """Say in one line what an exception means.

    Args:
        error: what was raised; :func:`part_of` may have noted the part of the config.

    Returns:
        The message of an `InputError`, else '[PART: ]TYPE: message'.

    Example:
        >>> describe(KeyError('mask')), describe(InputError('no such file: a.json'))
        ("KeyError: 'mask'", 'no such file: a.json')
    """
    known = linked(error, InputError)
    text = str(known or error).strip()
    if FIRST_LINE in text:  # torch repeats the traceback of a data loading process in the message
        kind, _, text = text.splitlines()[-1].partition(': ')
        text = text if known else f'{kind}: {text}'
    elif not known:
        text = f'{type(error).__name__}: {" ".join(text.split())}'
    part = getattr(error, 'mmca_part', None)
    return f'{part}: {text}' if part and not known else text


@contextmanager
def part_of(name: str) -> Iterator[None]:
    """Note in exceptions which part of a config was being built.

    Args:
        name: its key, such as 'train_dataloader'.
    """
    try:
        yield
    except Exception as error:
        if not hasattr(error, 'mmca_part'):
            error.mmca_part = name
        raise


def _fail_before_start(error: BaseException) -> NoReturn:
    """End the process for an error during set-up: one line, exit status 2."""
    _log(error)
    print(f'error: {describe(error)}{_hint(error)}', file=sys.stderr, flush=True)
    raise SystemExit(2) from error


def _fail_during_run(error: BaseException, advice: str) -> NoReturn:
    """End the process for a later error: exit status 2 for an `InputError`, else 1."""
    if linked(error, InputError):
        print(f'error: {describe(error)}', file=sys.stderr, flush=True)
        raise SystemExit(2) from error
    traceback.print_exception(error)
    print(f'error: {_advice(error)}{advice}', file=sys.stderr, flush=True)
    raise SystemExit(1) from error


@contextmanager
def reported(started: Callable[[], bool], advice: Callable[[], str]) -> Iterator[None]:
    """Handle exceptions by the policy of this module.

    Args:
        started: whether the first iteration has begun.
        advice: how to resume.

    Raises:
        SystemExit: instead of the exception; status 130 after an interrupt.
    """
    try:
        yield
    except Exception as error:
        if linked(error, KeyboardInterrupt):  # mmengine turns some into other exceptions
            _interrupted(error, advice())
        if wants_traceback():
            raise
        if started():
            _fail_during_run(error, advice())
        _fail_before_start(error)
    except KeyboardInterrupt as error:
        _interrupted(error, advice())


def _interrupted(error: BaseException, advice: str) -> NoReturn:
    print(f'interrupted; {advice}', file=sys.stderr, flush=True)
    raise SystemExit(130) from error


def _hint(error: BaseException) -> str:
    """How to see the traceback; an `InputError` says it all."""
    if linked(error, InputError):
        return ''
    return f' ({"--traceback" if TRACEBACK in os.environ else f"{TRACEBACK}=1"} shows where)'


def _advice(error: BaseException) -> str:
    """What to do about a failure that types and error numbers tell."""
    if linked(error, torch.cuda.OutOfMemoryError) or linked(error, MemoryError):
        return (
            'out of memory: lower the batch size or the image scale, set '
            'model.backbone.with_cp=True, or train with --amp on a GPU; '
        )
    system = linked(error, OSError)
    if system is not None and system.errno in DISK_FULL:
        return f'no space left for {system.filename or "a file"}: free some; '
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return 'if another process of this run failed first, its own output has the reason; '
    return ''


def _log(error: BaseException) -> None:
    """Write the traceback to the log file, if there is one yet."""
    from mmengine.logging import MMLogger

    record = logging.LogRecord(
        'mmca', logging.ERROR, '', 0, 'set-up failed', (), (type(error), error, error.__traceback__)
    )
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
