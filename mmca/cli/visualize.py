"""Draw the attention of one patch of an image, softmax and circulant side by side.

Each row is a block: the image with the patch marked, its softmax attention (mean of the heads),
its circulant attention, and the circulant kernel with displacement 0, 0 at the center. Colors
follow the square root of the weights.

With softmax weights in CHECKPOINT, the circulant attention is the nearest circulant matrix to the
softmax attention, as in `mmca analyze`. With circulant weights, such as those from `mmca distill`,
it is the block's own, and --teacher adds the softmax attention of the original.
"""

import argparse
from pathlib import Path

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.config.packages import FULL_STACK
from mmca.config.reader import load_config
from mmca.errors import InputError

REQUIRES = (*FULL_STACK, 'matplotlib')
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny_patch16_224.pth dog.jpg --out attention.png
  %(prog)s coco/maskrcnn_ca_deit_t ca_deit_t.pth dog.jpg --out attention.png \\
      --teacher deit_tiny_patch16_224.pth --blocks 0 3 --channels 0 64 128 --at 300 200"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help="weights of CONFIG's backbone or its original")
    add('image', metavar='IMAGE', help='an image file')
    add('--out', required=True, metavar='FILE', help='the .png file to write')
    blocks = 'block numbers, from 0; default: 4 blocks'
    add('--blocks', nargs='+', type=int, metavar='I', help=blocks)
    heads = 'draw a kernel for each of these heads, from 0 (by default circulant attention has one '
    heads += 'head per channel), instead of the mean of all'
    add('--heads', '--channels', nargs='+', type=int, metavar='I', help=heads)
    pixel = 'pixel to start from; default: the center'
    add('--at', nargs=2, type=int, metavar=('X', 'Y'), help=pixel)
    add('--side', type=int, default=224, help='resize the shorter side to SIDE; default 224')
    add('--teacher', metavar='FILE', help='softmax weights of the original')
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    from mmca.analysis.visualize import visualize
    from mmca.io import atomic_write

    out = Path(args.out)
    if out.suffix != '.png' or not out.parent.is_dir():
        raise InputError(f'--out {out}: must be a .png file in a folder that exists')
    cfg = load_config(args.config, args.cfg_options)
    options = (args.at, args.side, args.blocks, args.heads, args.teacher)
    figure = visualize(cfg, args.checkpoint, args.image, *options)
    with atomic_write(out) as file:
        figure.savefig(file, format='png', dpi=120)
    print(f'wrote {out}')
    return 0
