"""The checkpoint that a run will read: whether it is there, and of this model."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING

from mmca.cli.preflight.warn import warn
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


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
    from mmengine.runner import find_latest_checkpoint

    if tool == 'test':
        return args.checkpoint
    if args.resume not in (None, 'auto'):
        return args.resume
    if args.resume == 'auto' or (cfg.get('resume') and not cfg.get('load_from')):
        last = os.path.join(work_dir, 'last_checkpoint')
        if not os.path.isfile(last):
            warn(f'--resume: no checkpoint in {work_dir}, training starts from the beginning')
            return None
        return find_latest_checkpoint(work_dir)
    return cfg.get('load_from')


def check_checkpoint(path: str, model: nn.Module) -> str:
    """Compare a checkpoint with a model by names and shapes.

    Args:
        path: the file.
        model: the whole model; the meta device will do.

    Returns:
        How many tensors were found, in words.

    Raises:
        InputError: unreadable, or of another model.
    """
    from mmca.checkpoint import match, read_state_dict
    from mmca.checkpoint.loader import MIN_SHARE

    report = match(read_state_dict(path), model)
    if report.share < MIN_SHARE:
        raise InputError(
            f'{path} is of another model: {report.counts}; fewer than {MIN_SHARE:.0%} of the '
            "model's tensors are in it. A backbone alone goes to "
            'model.backbone.init_cfg, not here'
        )
    absent = [*report.missing, *report.mismatched]
    if absent:
        warn(
            f'{path}: {report.counts}; not loaded: {", ".join(absent[:4])}'
            f'{", ..." if len(absent) > 4 else ""}'
        )
    return report.counts
