"""What ends a run although config and data are right: memory, disks, dead processes."""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.main import find_linked
from mmca.cli.process_group import lost_process
from mmca.config.building import explain_building
from mmca.errors import InputError
from mmca.checks.channels import check_channels
from mmca.config.models import build_on_meta

if TYPE_CHECKING:
    from mmengine.config import Config

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
NO_MEMORY = re.compile("out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
DEAD_WORKER = re.compile(r'DataLoader worker \(pid\S* ([\d, ]+)\) (.*)')
FAILED_WORKER = re.compile(r'Caught (\w+) in DataLoader worker process \d+')


@contextmanager
def explained(cfg: Config, tool: str, work_dir: str) -> Iterator[None]:
    """Turn exceptions with a known cause into an `InputError` of one line; others pass.

    Args:
        cfg: the config of the run.
        tool: 'train', 'test' or 'transfer'.
        work_dir: where its logs and checkpoints are.

    Raises:
        InputError: the cause, and what to do about it.
    """
    try:
        with _logging_errors_raised():
            yield
    except Exception as error:
        if find_linked(error, KeyboardInterrupt, '__cause__', '__context__'):
            raise
        cause = find_linked(error, InputError, '__cause__')
        if cause is not None:
            line = explain_building(cause, cfg)
        else:
            explanations = (_out_of_memory, _full_disk, _worker)
            lines = (explain(error, cfg, tool, work_dir) for explain in explanations)
            line = next(filter(None, lines), None)
            line = line or explain_building(error, cfg) or _misfit(error, cfg)
        if line is None:
            raise
        raise InputError(line) from error


def how_to_go_on(tool: str, work_dir: str) -> str:
    """The command that continues a run that ended early."""
    if tool == 'test':
        return 'start the same command again'
    if (Path(work_dir) / 'last_checkpoint').is_file():
        return f'go on with the same command and --resume (last checkpoint in {work_dir})'
    return f'no checkpoint in {work_dir} yet, start the same command again'


def end_early(error: BaseException, tool: str, work_dir: str) -> int | None:
    """Say how to go on after an interrupt, or after another process of the run was lost.

    Args:
        error: what ended the run.
        tool: 'train', 'test' or 'transfer'.
        work_dir: where its logs and checkpoints are.

    Returns:
        The exit code, 130 or 1; None where the reason is another one.
    """
    # mmengine turns an interrupt while it writes the config into a SyntaxError.
    if find_linked(error, KeyboardInterrupt, '__cause__', '__context__') is not None:
        print(f'interrupted: {how_to_go_on(tool, work_dir)}', file=sys.stderr)
        return 130
    lost = lost_process(error)
    if lost is None:
        return None
    print(f'error: {lost}; {how_to_go_on(tool, work_dir)}', file=sys.stderr, flush=True)
    return 1


def _out_of_memory(error: Exception, cfg: Config, tool: str, work_dir: str) -> str | None:
    cause = find_linked(error, MemoryError, '__cause__')
    if cause is None:
        cause = find_linked(error, RuntimeError, '__cause__')  # torch.OutOfMemoryError is one
        if cause is None or not NO_MEMORY.search(str(cause)):
            return None
    on_gpu = 'GPU' in str(cause) or 'CUDA' in str(cause)
    if tool == 'transfer':
        advice = 'lower --batch-size or --side'
        return f'out of memory ({_first_sentence(cause)}): {advice}; {how_to_go_on(tool, work_dir)}'
    loader = f'{tool}_dataloader'
    ways = [f'{loader}.batch_size (now {cfg[loader].get("batch_size", 1)})']
    ways.append("the images' scale in its pipeline")
    if not on_gpu:
        ways.append(f'{loader}.num_workers (now {cfg[loader].get("num_workers", 0)})')
    advice = f'lower {", or ".join(ways)}'
    if tool == 'train' and on_gpu:
        advice += ', set model.backbone.with_cp=True, or train with --amp'
    elif tool == 'train':
        advice += ', or set model.backbone.with_cp=True'
    return f'out of memory ({_first_sentence(cause)}): {advice}; {how_to_go_on(tool, work_dir)}'


def _full_disk(error: Exception, cfg: Config, tool: str, work_dir: str) -> str | None:
    cause = find_linked(error, OSError, '__cause__', '__context__')
    while cause is not None and cause.errno not in (*FULL, *UNWRITABLE):
        # mmengine raises it again as its class with a text, without the number.
        following = cause.__cause__ or cause.__context__
        cause = find_linked(following, OSError, '__cause__', '__context__')
    if cause is None or (cause.errno in UNWRITABLE and not cause.filename):
        return None
    file = cause.filename or f'a file of {work_dir}'
    remedy = 'make room' if cause.errno in FULL else 'allow writing there'
    return f'cannot write {file} ({cause.strerror}): {remedy}, then {how_to_go_on(tool, work_dir)}'


def _worker(error: Exception, cfg: Config, tool: str, work_dir: str) -> str | None:
    loaders = (
        '--workers'
        if tool == 'transfer'
        else ', '.join(
            f'{name}.num_workers'
            for name in (
                ('train_dataloader', 'val_dataloader') if tool == 'train' else ('test_dataloader',)
            )
            if isinstance(cfg.get(name), Mapping) and cfg[name].get('num_workers')
        )
    )
    dead = find_linked(error, RuntimeError, '__cause__')
    if dead is not None and (found := DEAD_WORKER.search(str(dead))):
        return (
            f'a process that loads data died: pid {found[1]} {_first_sentence(found[2])}; often '
            f'memory ran out (see dmesg) or /dev/shm is full: lower {loaders} or the batch size; '
            f'with {loaders} = 0 its own error is shown; {how_to_go_on(tool, work_dir)}'
        )
    text = str(error)
    if found := FAILED_WORKER.match(text):
        *_, last = re.findall(r'File "(.+)", line (\d+)', text)
        reason = ' '.join(text.strip().splitlines()[-1].split())
        return (
            f'loading data failed: {reason} ({Path(last[0]).name}, line {last[1]}); '
            f'{loaders} = 0 shows where'
        )
    return None


def _misfit(error: Exception, cfg: Config) -> str | None:
    """Look for parts of the model that do not fit: good runs need not pay for that beforehand."""
    from mmengine.registry import DefaultScope

    if not isinstance(error, (AssertionError, IndexError, RuntimeError, ValueError)):
        return None
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            check_channels(cfg.model, build_on_meta(cfg.model))
    except InputError as misfit:
        return str(misfit)
    except Exception:  # the model cannot be built for this: the error itself is all that is known
        return None
    return None


def _first_sentence(what: object) -> str:
    line = next(iter(str(what).strip().splitlines()), '')
    return line.split('. ')[0].rstrip('. ') or type(what).__name__


@contextmanager
def _logging_errors_raised() -> Iterator[None]:
    """Let a log file that cannot be written end the run: `logging` prints a traceback instead."""
    before: Callable = logging.FileHandler.handleError

    def handle_error(handler: logging.FileHandler, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return before(handler, record)
        error.filename = error.filename or handler.baseFilename
        raise error

    logging.FileHandler.handleError = handle_error
    try:
        yield
    finally:
        logging.FileHandler.handleError = before
