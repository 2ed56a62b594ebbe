"""Distill softmax attention into circulant attention on unlabeled images.

CONFIG's backbone starts from TEACHER, softmax weights of the same family and size, and learns to
reproduce the teacher's feature maps. The result is a file for `init_cfg`. If TEACHER is the
checkpoint of a whole model, --model-out also writes this model with the new backbone.
"""

import argparse
import shlex
from pathlib import Path

from mmca.cli.arguments import WEIGHTS_HELP, add_cfg_options, add_config, backbone_options
from mmca.cli.table import print_table
from mmca.config.packages import FULL_STACK
from mmca.config.reader import load_config

REQUIRES = FULL_STACK
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny --images data/coco/train2017 \\
      --out ca_deit_t.pth
  mmca train coco/maskrcnn_ca_deit_t --cfg-options model.backbone.pos_embed=True \\
      model.backbone.attn_cfg.circulant.head_dim=softmax \\
      model.backbone.attn_cfg.circulant.scale=paper \\
      model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=ca_deit_t.pth

To use several processes, one per GPU, or on CPUs if there is no GPU:
  torchrun --nproc_per_node 8 -m mmca distill CONFIG TEACHER ... --launcher pytorch"""
SETTINGS = ('iters', 'block_iters', 'batch_size', 'lr', 'train', 'side', 'seed')
RUN = ('calibrate', 'workers', 'amp', 'resume', 'launcher')
BACKBONE = 'model.backbone'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add = parser.add_argument
    add('teacher', metavar='TEACHER', help=f'softmax weights of the same size: {WEIGHTS_HELP}')
    add('--images', nargs='+', required=True, metavar='DIR', help='folders of images')
    add('--out', required=True, metavar='FILE', help='the .pth file to write')
    whole = "also write TEACHER's whole model with the new backbone, to use with `mmca test`"
    add('--model-out', metavar='FILE', help=whole)
    iters = 'total number of iterations; default 1000; 0 only calibrates'
    add('--iters', type=int, default=1000, help=iters)
    calibrate = 'first calibrate on N images, without gradients; default 200 if --iters is 0'
    add('--calibrate', type=int, metavar='N', help=calibrate)
    blocks = "iterations that train each block on the teacher's input; default half of --iters"
    add('--block-iters', type=int, help=blocks)
    add('--batch-size', type=int, default=16, help='images per step and process; default 16')
    add('--lr', type=float, default=5e-4, help='peak learning rate; default 5e-4')
    train = 'parameters to train: attention, blocks with a new attention (default), or all'
    add('--train', choices=('attention', 'blocks', 'all'), default='blocks', help=train)
    add('--side', type=int, default=288, help='side of the training crops in pixels; default 288')
    add('--workers', type=int, default=2, help='data loading processes; default 2')
    add('--seed', type=int, default=0, help='random seed; default 0')
    add('--work-dir', help='folder for logs and checkpoints; default work_dirs/distill_CONFIG')
    launchers = ('none', 'pytorch', 'slurm', 'mpi')
    add('--launcher', choices=launchers, default='none', help='process launcher, see below')
    add('--resume', action='store_true', help='resume from the last checkpoint')
    add('--amp', action='store_true', help='use mixed precision (only on GPUs)')
    add_cfg_options(parser, f'{BACKBONE}.attn=CCCCSSSSSSSS')


def run(args: argparse.Namespace) -> int:
    from mmengine.dist import is_main_process

    from mmca.distill.config import distill_config
    from mmca.distill.images import count_images
    from mmca.distill.report import ERRORS, before_and_after
    from mmca.distill.result import check_outputs, neck_and_heads, provenance, save
    from mmca.engine import Runner

    check_outputs(args.teacher, {'--out': args.out, '--model-out': args.model_out})
    cfg = load_config(args.config, args.cfg_options)
    rest = neck_and_heads(args.teacher, cfg) if args.model_out else {}
    work_dir = args.work_dir or f'work_dirs/distill_{Path(args.config).stem}'
    options = {name: getattr(args, name) for name in (*SETTINGS, *RUN)}
    cfg = distill_config(cfg, args.teacher, args.images, work_dir, **options)
    images = count_images(args.images)
    runner = Runner.from_cfg(cfg)
    model = runner.train()
    if not is_main_process():
        return 0
    student = getattr(model, 'module', model).student.state_dict()
    errors = runner.message_hub.runtime_info[ERRORS]
    settings = {name: getattr(args, name) for name in ('config', *SETTINGS, 'calibrate')}
    info = provenance(args.teacher, images, settings, errors)
    needed = {k: v for k, v in cfg.model.student.items() if k in ('pos_embed', 'attn_cfg')}
    attn_cfg = {name: dict(options) for name, options in needed.get('attn_cfg', {}).items()}
    save(args.out, args.model_out, student, rest, info, attn_cfg)
    print_table(('held-out images', 'relative error', 'cosine'), before_and_after(errors))
    words = list(args.cfg_options)
    words += [word for word in backbone_options(needed) if word not in words]
    init = backbone_options({'init_cfg': {'type': 'Pretrained', 'checkpoint': args.out}})
    print(f'to use {args.out}: --cfg-options {shlex.join([*words, *init])}')
    if args.model_out:
        command = ['mmca', 'test', args.config, args.model_out]
        command += ['--cfg-options', *words] if words else []
        print(f'to test {args.model_out}: {shlex.join(command)}')
    return 0
