"""Train the attention of a backbone after a softmax teacher, on images without labels.

The backbone is CONFIG's; it starts from TEACHER, weights of the family's softmax original, and
learns to produce the same maps. The result is a file that `init_cfg` takes.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.cli.library_tool import add_common_flags
from mmca.cli.trained_backbone import backbone_settings, softmax_settings
from mmca.config.names import OWN_HOOKS
from mmca.config.packages import FULL_STACK
from mmca.config.reader import library_of, load_config, parse_options
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

REQUIRES = FULL_STACK
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny_patch16_224.pth --images data/coco/train2017 \\
      --out ca_deit_t.pth
  mmca train coco/maskrcnn_ca_deit_t --cfg-options model.backbone.init_cfg.type=Pretrained \\
      model.backbone.init_cfg.checkpoint=ca_deit_t.pth

Several processes, one per GPU (or on CPUs where there is no GPU):
  torchrun --nproc_per_node 8 -m mmca transfer CONFIG TEACHER ... --launcher pytorch"""
KINDS = ('error', 'cosine')
PATCH = 32  # sizes of crops are multiples of it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    parser.add_argument('teacher', metavar='TEACHER', help='softmax weights of the same size')
    parser.add_argument('--images', nargs='+', required=True, metavar='DIR', help='folders')
    parser.add_argument('--out', required=True, metavar='FILE', help='the resulting .pth file')
    parser.add_argument('--iters', type=int, default=1000, help='iterations in all; default 1000')
    parser.add_argument(
        '--block-iters',
        type=int,
        help='those in which each block is fed by the teacher; default half of them',
    )
    parser.add_argument('--batch-size', type=int, default=16, help='images a step; default 16')
    parser.add_argument('--lr', type=float, default=5e-4, help='peak learning rate; default 5e-4')
    parser.add_argument(
        '--train',
        choices=('attention', 'blocks', 'all'),
        default='blocks',
        help='what learns: attention alone, the blocks whose attention differs (default), or all',
    )
    parser.add_argument('--gain', type=float, default=1.0, help='of the start; default 1')
    parser.add_argument('--side', type=int, default=288, help='of the views; default 288')
    parser.add_argument('--workers', type=int, default=2, help='loading processes; default 2')
    parser.add_argument('--seed', type=int, default=0, help='default 0')
    add_common_flags(parser, 'work_dirs/transfer_CONFIG')
    parser.add_argument('--resume', action='store_true', help='go on from the last checkpoint')
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPUs)')
    add_cfg_options(parser, 'model.backbone.attn=CCCCSSSSSSSS')


def run(args: argparse.Namespace) -> int:
    """Train, compare, write; returns the exit code."""
    from mmengine.device import get_device
    from mmengine.dist import is_main_process
    from mmengine.runner import Runner

    from mmca.cli.process_group import join_cpu_group
    from mmca.cli.run_errors import end_early, explained
    from mmca.config.atomic_saves import atomic_saves
    from mmca.config.trust import load_checkpoints_safely
    from mmca.preflight import check_work_dir
    from mmca.transfer.images import HELD_OUT, find_images
    from mmca.transfer.report import ERRORS

    check_numbers(args)
    out = Path(args.out)
    if out.suffix != '.pth' or not out.parent.is_dir():
        raise InputError(f'--out {out}: must be a .pth file in a folder that exists')
    if not Path(args.teacher).is_file():
        raise InputError(f'TEACHER {args.teacher!r}: no such file')
    load_checkpoints_safely()
    cfg = load_config(args.config, args.cfg_options)
    library_of(cfg, args.config)
    settings = backbone_settings(cfg, args.config) | dict(drop_path_rate=0.0)
    files = find_images(args.images)
    if len(files) < HELD_OUT:
        raise InputError(f'--images: {len(files)} images, at least {HELD_OUT} are needed')
    check_images(files)
    cfg = transfer_config(args, cfg, settings)
    check_work_dir(cfg.work_dir)
    if args.launcher == 'pytorch' and get_device() == 'cpu':
        cfg.merge_from_dict(parse_options(join_cpu_group(cfg)))
    try:
        with explained(cfg, 'transfer', cfg.work_dir), atomic_saves():
            runner = Runner.from_cfg(cfg)
            model = runner.train()
    except BaseException as error:
        code = end_early(error, 'transfer', cfg.work_dir)
        if code is None:
            raise
        return code
    if is_main_process():
        errors = runner.message_hub.runtime_info[ERRORS]
        write(out, getattr(model, 'module', model).student, args, len(files), errors)
        print(error_table(errors))
        key = 'model.backbone.init_cfg'
        print(f'{out} is for --cfg-options {key}.type=Pretrained {key}.checkpoint={out}')
    return 0


def check_numbers(args: argparse.Namespace) -> None:
    """Check the numbers of the command line.

    Args:
        args: the parsed command line.

    Raises:
        InputError: one that cannot be.
    """
    for name, least in (('iters', 2), ('batch_size', 1), ('workers', 0), ('seed', 0)):
        if getattr(args, name) < least:
            flag = name.replace('_', '-')
            raise InputError(f'--{flag} {getattr(args, name)}: must be at least {least}')
    if args.block_iters is not None and not 0 <= args.block_iters <= args.iters:
        raise InputError(
            f'--block-iters {args.block_iters}: must be from 0 to --iters, {args.iters}'
        )
    for name in ('lr', 'gain'):
        if not 0 < getattr(args, name) < float('inf'):
            raise InputError(f'--{name} {getattr(args, name)}: must be a positive number')
    if args.side < 2 * PATCH or args.side % PATCH:
        raise InputError(f'--side {args.side}: must be a multiple of {PATCH}, at least {2 * PATCH}')


def check_images(files: list[str]) -> None:
    """Look at the headers and ends of all images.

    Args:
        files: their paths.

    Raises:
        InputError: some cannot be read; it says how many, and why the first cannot.
    """
    from mmca.preflight.images import read_header

    reasons = []
    for file in files:
        try:
            read_header(file)
        except InputError as error:
            reasons.append(str(error))
    if reasons:
        raise InputError(
            f'--images: {len(reasons)} of {len(files)} images cannot be read; the first: '
            f'{reasons[0]}, or remove it'
        )


def transfer_config(args: argparse.Namespace, cfg: Config, settings: dict) -> Config:
    """The run as a config of mmengine.

    Args:
        args: the parsed command line.
        cfg: the config of the detector, segmentor or classifier, with its options merged.
        settings: those of the student, without first weights.

    Returns:
        The config, on one process or as `torchrun` started it.
    """
    from mmengine.config import Config

    weights = dict(type='Pretrained', checkpoint=args.teacher)
    student = dict(settings, init_cfg=dict(weights, gain=args.gain))
    teacher = dict(softmax_settings(settings, args.teacher), init_cfg=weights)
    blocks = args.iters // 2 if args.block_iters is None else args.block_iters
    warmup = min(50, args.iters // 10 + 1)
    preprocessor = cfg.model.get('data_preprocessor') or cfg.data_preprocessor  # mmpretrain's
    views = dict(type='mmca.UnlabeledImages', folders=args.images, side=args.side)
    interval = max(args.iters // 5, 1)
    loading = dict(
        batch_size=args.batch_size,
        num_workers=args.workers,
        collate_fn=dict(type='default_collate'),
    )
    sides = sorted(
        {args.side, args.side * 3 // 4 // PATCH * PATCH, args.side // 2 // PATCH * PATCH}
    )
    return Config(
        dict(
            default_scope='mmengine',
            work_dir=args.work_dir or f'work_dirs/transfer_{Path(args.config).stem}',
            resume=args.resume,
            launcher=args.launcher,
            model=dict(
                type='mmca.AttentionTransfer',
                student=student,
                teacher=teacher,
                block_iters=blocks,
                train=args.train,
                sizes=[(height, width) for height in sides for width in sides],
                data_preprocessor=dict(
                    type='ImgDataPreprocessor',
                    mean=preprocessor['mean'],
                    std=preprocessor['std'],
                    bgr_to_rgb=True,
                ),
            ),
            train_dataloader=dict(
                **loading,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=views,
            ),
            val_dataloader=dict(
                **loading,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(views, test_mode=True),
            ),
            train_cfg=dict(by_epoch=False, max_iters=args.iters, val_interval=interval),
            val_cfg=dict(),
            val_evaluator=dict(type='mmca.TransferError'),
            optim_wrapper=dict(
                type='AmpOptimWrapper' if args.amp else 'OptimWrapper',
                optimizer=dict(type='AdamW', lr=args.lr, weight_decay=0.0),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warmup),
                dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=args.iters),
            ],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=interval, max_keep_ckpts=1
                ),
                **{name: dict(type=kind) for name, kind in OWN_HOOKS.items()},
            ),
            custom_hooks=[dict(type='mmca.SeedHook'), dict(type='mmca.TransferReportHook')],
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=args.seed),
        )
    )


def write(
    out: Path, student: nn.Module, args: argparse.Namespace, images: int, errors: dict
) -> None:
    """Write the student's weights and where they come from.

    Args:
        out: the file.
        student: the backbone.
        args: the parsed command line.
        images: their number, held-out ones included.
        errors: iteration -> figures on held-out images.
    """
    import torch

    from mmca import __version__
    from mmca.config.atomic_saves import replacing

    names = ('config', 'iters', 'block_iters', 'batch_size', 'lr', 'train', 'gain', 'side', 'seed')
    provenance = {
        'teacher': Path(args.teacher).name,
        'teacher_sha256': hashlib.sha256(Path(args.teacher).read_bytes()).hexdigest(),
        'images': images,
        'settings': {name: getattr(args, name) for name in names},
        'errors': errors,
        'versions': {'mmca': __version__, 'torch': str(torch.__version__)},
    }
    with replacing(out) as file:
        torch.save({'model': student.state_dict(), 'transfer': provenance}, file)


def error_table(errors: dict[int, dict[str, float]]) -> str:
    """Errors and cosines of every map on held-out images, before and after.

    Args:
        errors: iteration -> figures.
    """
    first, last = errors[min(errors)], errors[max(errors)]
    rows = [f'{"held-out images":16}{"relative error":>22}{"cosine":>20}']
    for name in dict.fromkeys(key.rpartition('/')[0] for key in last):
        cells = (f'{first[f"{name}/{k}"]:.3f} -> {last[f"{name}/{k}"]:.3f}' for k in KINDS)
        rows.append(f'{name:16}' + ''.join(f'{cell:>20}' for cell in cells))
    return '\n'.join(rows)
