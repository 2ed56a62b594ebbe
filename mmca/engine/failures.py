"""Errors of a run: one line during set-up, the traceback and a line of advice afterward.

1. `InputError`: its line, exit status 2.
2. Anything else raised before the end of the first iteration, which fails if settings do not fit
   each other: `error: TYPE: message`, exit status 2. The traceback goes to the log file.
3. Anything raised later: the traceback, then how to resume, exit status 1.

With MMCA_TRACEBACK=1 (`--traceback` of the commands), exceptions are raised unchanged.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from mmca.errors import InputError, print_line

TRACEBACK = 'MMCA_TRACEBACK'  # '1' asks for tracebacks; '0': a command of mmca, which has the flag
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def linked(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Find the nearest exception of a kind in a chain of causes and contexts."""
    return next((one for one in _chain(error) if isinstance(one, kind)), None)


def _source_line(error: BaseException) -> str:
    """The line that raised an exception without a message, such as a bare assert."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    return f'{last.line} in {last.filename}, line {last.lineno}' if last else ''


def describe(error: BaseException) -> str:
    """Explain an exception in one line.

    Returns:
        The message of an `InputError`, else 'TYPE: message', after the part of the config that
        `mmca.Runner` has noted as `error.mmca_part`.

    Example:
        >>> describe(KeyError('mask')), describe(InputError('no such file: a.json'))
        ("KeyError: 'mask'", 'no such file: a.json')
    """
    known = linked(error, InputError)
    # mmengine raises what a hook raises again, with the hook's name and without ours.
    error = next((one for one in _chain(error) if hasattr(one, 'mmca_part')), error)
    part = getattr(error, 'mmca_part', '')
    text = str(known or error).strip() or _source_line(error)
    if 'Traceback (most recent' in text:  # torch quotes the traceback of a loading process
        kind, _, text = text.splitlines()[-1].partition(': ')
        text = text if known else f'{kind}: {text}'
    elif isinstance(error, FileNotFoundError) and 'dataloader' in part and not known:
        text = f'not found: {error.filename}; correct the path in the config, or MMCA_DATA_ROOT'
    elif not known:
        text = f'{type(error).__name__}: {" ".join(text.split())}'
    return f'{part}: {text}' if part and not known else text


@contextmanager
def reported(
    started: Callable[[], bool], advice: Callable[[], str] = lambda: 'run the same command again'
) -> Iterator[None]:
    """Handle exceptions by the policy of this module.

    Args:
        started: whether the first iteration has ended.
        advice: how to resume.

    Raises:
        SystemExit: instead of the exception; status 130 after an interrupt.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if linked(error, KeyboardInterrupt):  # mmengine turns some into other exceptions
            print(f'interrupted; {advice()}', file=sys.stderr, flush=True)
            raise SystemExit(130) from error
        if os.environ.get(TRACEBACK) == '1':
            raise
        expected = linked(error, InputError)
        if started() and not expected:
            traceback.print_exception(type(error), error, error.__traceback__)
            print_line('error', f'{_advice(error) or _others_advice()}{advice()}')
            raise SystemExit(1) from error
        if not started():
            _log(error)
        flag = '--traceback' if TRACEBACK in os.environ else f'{TRACEBACK}=1'
        text = describe(error) if expected else f'{_advice(error)}{describe(error)}'
        print_line('error', text + ('' if expected else f' ({flag} shows where)'))
        raise SystemExit(2) from error


def _advice(error: BaseException) -> str:
    """Advise on failures that are known by type or error number."""
    if linked(error, torch.cuda.OutOfMemoryError) or linked(error, MemoryError):
        return (
            'out of memory: reduce the batch size or the image size, set '
            'model.backbone.with_cp=True, or train with --amp on a GPU; '
        )
    system = linked(error, OSError)
    if system is not None and system.errno in DISK_FULL:
        return f'no space left for {system.filename or "a file"}: free some space; '
    return ''


def _others_advice() -> str:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return 'if another process of this run failed first, its own output shows the reason; '
    return ''


def _log(error: BaseException) -> None:
    """Write the traceback to the log file, if it exists yet."""
    from mmengine.logging import MMLogger

    record = logging.LogRecord(
        'mmca', logging.ERROR, '', 0, 'set-up failed', (), (type(error), error, error.__traceback__)
    )
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
