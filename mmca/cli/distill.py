"""Train the attention of a backbone after a softmax teacher, on images without labels.

The backbone is CONFIG's; it starts from TEACHER, weights of the family's softmax original, and
learns to produce the same maps. The result is a file that `init_cfg` takes, and where TEACHER is
the checkpoint of a whole model, that model with the new backbone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.cli.library_tool import add_common_flags
from mmca.analysis.trained_backbone import backbone_settings
from mmca.config.packages import FULL_STACK
from mmca.config.reader import library_of, load_config, parse_options
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor

REQUIRES = FULL_STACK
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny_patch16_224.pth --images data/coco/train2017 \\
      --out ca_deit_t.pth
  mmca train coco/maskrcnn_ca_deit_t --cfg-options model.backbone.init_cfg.type=Pretrained \\
      model.backbone.init_cfg.checkpoint=ca_deit_t.pth

Several processes, one per GPU (or on CPUs where there is no GPU):
  torchrun --nproc_per_node 8 -m mmca transfer CONFIG TEACHER ... --launcher pytorch"""
SETTINGS = ('config', 'iters', 'block_iters', 'batch_size', 'lr', 'train', 'gain', 'side', 'seed')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    parser.add_argument('teacher', metavar='TEACHER', help='softmax weights of the same size')
    parser.add_argument('--images', nargs='+', required=True, metavar='DIR', help='folders')
    parser.add_argument('--out', required=True, metavar='FILE', help='the resulting .pth file')
    parser.add_argument(
        '--model-out',
        metavar='FILE',
        help="also write TEACHER's whole model with the new backbone, for `mmca test CONFIG FILE`",
    )
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
    from mmca.distill.config import transfer_config
    from mmca.distill.result import BACKBONE, error_table, provenance, save
    from mmca.config.atomic_saves import atomic_saves
    from mmca.engine.safe_loading import load_checkpoints_safely
    from mmca.checks import check_work_dir
    from mmca.checks.flags import is_first_process
    from mmca.distill.images import HELD_OUT, find_images
    from mmca.distill.report import ERRORS

    check_numbers(args)
    if not Path(args.teacher).is_file():
        raise InputError(f'TEACHER {args.teacher!r}: no such file')
    check_outputs(args)
    load_checkpoints_safely()
    cfg = load_config(args.config, args.cfg_options)
    library = library_of(cfg, args.config)
    settings = backbone_settings(cfg, args.config) | dict(drop_path_rate=0.0)
    files = find_images(args.images)
    if len(files) < HELD_OUT:
        raise InputError(f'--images: {len(files)} images, at least {HELD_OUT} are needed')
    check_images(files)
    rest = rest_of_model(args, cfg, library) if args.model_out else {}
    cfg = transfer_config(args, cfg, settings)
    check_work_dir(cfg.work_dir)
    if args.resume and is_first_process(args.launcher):
        check_resume(cfg)
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
        student = getattr(model, 'module', model).student.state_dict()
        chosen = {name: getattr(args, name) for name in SETTINGS}
        origin = provenance(args.teacher, len(files), chosen, errors)
        save(args.out, {'model': student, 'transfer': origin})
        print(error_table(errors))
        key = 'model.backbone.init_cfg'
        print(f'{args.out} is for --cfg-options {key}.type=Pretrained {key}.checkpoint={args.out}')
        if args.model_out:
            whole = rest | {f'{BACKBONE}{name}': tensor for name, tensor in student.items()}
            save(args.model_out, {'state_dict': whole, 'transfer': origin})
            options = ' '.join(['', '--cfg-options', *args.cfg_options] if args.cfg_options else [])
            print(f'{args.model_out} is for mmca test {args.config} {args.model_out}{options}')
    return 0


def check_outputs(args: argparse.Namespace) -> None:
    """Check the names of the files to be written.

    Args:
        args: the parsed command line.

    Raises:
        InputError: another suffix, no such folder, or a file that is named twice.
    """
    taken = [Path(args.teacher).resolve()]
    for flag, file in (('--out', args.out), ('--model-out', args.model_out)):
        if file is None:
            continue
        path = Path(file)
        if path.suffix != '.pth' or not path.parent.is_dir():
            raise InputError(f'{flag} {file}: must be a .pth file in a folder that exists')
        if path.resolve() in taken:
            raise InputError(f'{flag} {file}: must be another file than TEACHER and --out')
        taken.append(path.resolve())


def check_numbers(args: argparse.Namespace) -> None:
    """Check the numbers of the command line.

    Args:
        args: the parsed command line.

    Raises:
        InputError: one that cannot be.
    """
    from mmca.distill.config import PATCH

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
    from mmca.checks.images import read_header

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


def rest_of_model(args: argparse.Namespace, cfg: Config, library: str) -> dict[str, Tensor]:
    """The neck and the heads of the teacher's model, which must be those of the config.

    Args:
        args: the parsed command line.
        cfg: the config.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.

    Raises:
        InputError: they are not, or the file cannot be read.
    """
    from mmengine.registry import DefaultScope

    from mmca.distill.result import surroundings
    from mmca.config.models import build_on_meta

    with DefaultScope.overwrite_default_scope(library):
        model = build_on_meta(cfg.model)
    try:
        return surroundings(args.teacher, model)
    except InputError as error:
        raise InputError(f'--model-out: {error}') from None


def check_resume(cfg: Config) -> None:
    """Look at the checkpoint to go on from, and name it in the work dir.

    Args:
        cfg: from `transfer_config`.

    Raises:
        InputError: it is no transfer's, or not one to this backbone.
    """
    from mmca.checks.checkpoint import check_checkpoint, find_last, name_last
    from mmca.config.models import build_on_meta

    last = find_last(Path(cfg.work_dir).absolute())
    if last is not None:
        check_checkpoint(last, build_on_meta(cfg.model), 'resume')
    name_last(cfg.work_dir, last)
