"""Flags that the library's tool would answer with a traceback."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

PICKLES = ('.pkl', '.pickle')
TEXTS = ('.json', '.yaml', '.yml')
# Launcher -> the variables one of which holds the number of the process, and how to start it.
RANKS = {
    'pytorch': (('RANK',), 'torchrun --nproc_per_node GPUS -m mmca, or tools/dist_{tool}.sh'),
    'slurm': (('SLURM_PROCID',), 'srun'),
    'mpi': (('OMPI_COMM_WORLD_RANK', 'PMI_RANK'), 'mpirun'),
}


def is_first_process(launcher: str) -> bool:
    """Whether this process is the first of its run, the one that checks.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Returns:
        True where the launcher's variables give it the number 0 or are not set.
    """
    names, _ = RANKS[launcher if launcher in RANKS else 'pytorch']
    return int(next((os.environ[name] for name in names if name in os.environ), 0)) == 0


def check_flags(tool: str, args: Namespace, cfg: Config, library: str) -> None:
    """Refuse flags that cannot work with this config or machine.

    Args:
        tool: 'train' or 'test'.
        args: the parsed command line.
        cfg: the config with its options merged.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.

    Raises:
        InputError: the first such flag.
    """
    from mmengine.device import get_device

    flags = vars(args)
    if args.launcher in RANKS:
        names, how = RANKS[args.launcher]
        if not any(name in os.environ for name in names):
            raise InputError(
                f'--launcher {args.launcher} needs its launcher: use {how.format(tool=tool)}'
            )
    if flags.get('amp') and get_device() in ('cpu', 'mps'):
        raise InputError(f'--amp needs a GPU and the device here is {get_device()}: drop the flag')
    if flags.get('auto_scale_lr') and not {'enable', 'base_batch_size'} <= set(
        cfg.get('auto_scale_lr') or {}
    ):
        raise InputError(
            '--auto-scale-lr: the config has none; '
            'add auto_scale_lr = dict(enable=False, base_batch_size=16)'
        )
    if flags.get('tta'):
        _check_tta(cfg, library)
    if flags.get('no_validate') and library != 'mmpretrain':
        raise InputError(
            f'--no-validate: {library} has no such flag; '
            'use --cfg-options val_cfg=None val_dataloader=None val_evaluator=None'
        )
    if library == 'mmpretrain' and flags.get('out_item') and not args.out:
        raise InputError(f'--out-item {args.out_item} needs --out FILE')
    if library != 'mmseg' and flags.get('out'):
        metrics = library == 'mmpretrain' and args.out_item == 'metrics'
        suffixes = (*PICKLES, *TEXTS) if metrics else PICKLES
        if Path(args.out).suffix not in suffixes:
            raise InputError(
                f'--out {args.out}: the name must end in {".json" if metrics else ".pkl"}'
            )


def _check_tta(cfg: Config, library: str) -> None:
    if library == 'mmseg':
        absent = [key for key in ('tta_model', 'tta_pipeline') if cfg.get(key) is None]
        if absent:
            raise InputError(f'--tta: the config has no {" and no ".join(absent)}; drop the flag')
    elif 'tta_model' not in cfg and (cfg.model.get('roi_head') or cfg.model).get('mask_head'):
        raise InputError(
            "--tta: mmdet's test-time augmentation has no masks, and the config has no tta_model "
            'of its own; drop the flag'
        )
