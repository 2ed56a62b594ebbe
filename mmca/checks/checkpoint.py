"""The checkpoint that a run will read: whether it is there, and of this model."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mmca.io import atomic_write
from mmca.errors import InputError, warn

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

NAME = 'last_checkpoint'
Use = Literal['test', 'resume', 'start']


def checkpoint_of(tool: str, args: Namespace, cfg: Config, work_dir: str) -> str | None:
    """Find the checkpoint that a run will read.

    Args:
        tool: 'train' or 'test'.
        args: the parsed command line.
        cfg: the config with its options merged.
        work_dir: where a training's last checkpoint is looked for.

    Returns:
        Its path or address, or None.
    """
    if tool == 'test':
        return args.checkpoint
    if resumes_from_last(args, cfg):
        return find_last(Path(work_dir).absolute())
    return args.resume or cfg.get('load_from')


def resumes_from_last(args: Namespace, cfg: Config) -> bool:
    """Whether a training goes on from the last checkpoint of its work dir.

    Args:
        args: the parsed command line.
        cfg: the config with its options merged.
    """
    if args.resume is not None:
        return args.resume == 'auto'
    return bool(cfg.get('resume') and not cfg.get('load_from'))


def resumes(args: Namespace, cfg: Config) -> bool:
    """Whether a training goes on from a checkpoint, the last one or another."""
    return args.resume is not None or bool(cfg.get('resume'))


def name_last(work_dir: str, checkpoint: str | None) -> None:
    """Write `last_checkpoint`, by which mmengine resumes, where it says something else.

    Args:
        work_dir: where it is.
        checkpoint: the last one, or None.
    """
    path = Path(work_dir) / NAME
    if checkpoint is not None and _named(path) != checkpoint:
        with atomic_write(path, 'w') as file:
            file.write(checkpoint)


def _named(path: Path) -> str:
    return path.read_text(errors='replace').strip() if path.is_file() else ''


def find_last(work_dir: Path) -> str | None:
    """The checkpoint that `last_checkpoint` names, or else the newest that can be resumed.

    In a work dir that was moved or copied it names a file in the old place; the one of that name
    in the work dir goes first.

    Args:
        work_dir: of a training.

    Returns:
        The file; None, after a warning, where there is no checkpoint at all.

    Raises:
        InputError: there are some, and none can be resumed.
    """
    from mmca.checkpoint import read_checkpoint

    named = _named(work_dir / NAME)
    if '://' in named or os.path.isdir(named):
        return named
    local = work_dir / os.path.basename(named)
    first = [str(path) for path in (local, Path(named)) if path.is_file()]
    by_age = sorted(work_dir.glob('*.pth'), key=os.path.getmtime, reverse=True)
    files = list(dict.fromkeys([*first, *map(str, by_age)]))
    for file in files:
        try:
            content = read_checkpoint(file)
        except InputError as error:
            warn(f'--resume: {error}')
            continue
        if file in first or 'optimizer' in content.skipped:
            if named and file != named:
                warn(f'--resume: {work_dir / NAME} names {named}; going on from {file}')
            return file
    if named or files:
        raise InputError(
            f'--resume: no checkpoint in {work_dir} can be resumed'
            f'{f" ({NAME} names {named})" if named else ""}; start again without --resume'
        )
    warn(f'--resume: no checkpoint in {work_dir}, training starts from the beginning')
    return None


def check_checkpoint(path: str, model: nn.Module, use: Use) -> str:
    """Compare a checkpoint with a model by names and shapes.

    Args:
        path: the file.
        model: the whole model; the meta device will do.
        use: 'test' to predict with it, 'resume' to go on with its training, 'start' to begin
            another one, for which a part of the model's weights will do.

    Returns:
        How many tensors were found, in words.

    Raises:
        InputError: unreadable, of another model, or without what it is used for.
    """
    from mmca.checkpoint import find_weights, match
    from mmca.checkpoint.loader import MIN_SHARE
    from mmca.engine.safe_loading import load_from_local

    content = load_from_local(path, 'cpu')  # as the run will read it
    report = match(find_weights(content).tensors, model)
    if report.share < MIN_SHARE:
        raise InputError(
            f'{path} is of another model: {report.counts}; fewer than {MIN_SHARE:.0%} of the '
            "model's tensors are in it. A backbone alone goes to "
            'model.backbone.init_cfg, not here'
        )
    meta = content.get('meta')
    known = {*content, *(meta if isinstance(meta, Mapping) else ())}
    if use == 'resume' and not {'optimizer', 'epoch', 'iter'} <= known:
        raise InputError(
            f'{path} holds weights, not the state of a training: start from it with '
            f'--cfg-options load_from={path} instead of --resume'
        )
    absent = [*report.missing, *report.mismatched]
    needed = _needed(model, use)
    if random := [name for name in absent if name.partition(':')[0] in needed]:
        raise InputError(
            f'{path} is of another model: {report.counts}; it lacks {_some(random)}, which would '
            'stay random'
        )
    if absent:
        warn(f'{path}: {report.counts}; not loaded: {_some(absent)}')
    return report.counts


def _needed(model: nn.Module, use: Use) -> set[str]:
    """The parameters without which the outcome would be that of random weights."""
    if use == 'start':
        return set()
    names = {name for name, _ in model.named_parameters()}
    if use == 'test':  # auxiliary heads are for training alone
        names = {name for name in names if not name.startswith('auxiliary_head.')}
    return names


def _some(names: list[str]) -> str:
    return ', '.join(names[:4]) + (', ...' if len(names) > 4 else '')
