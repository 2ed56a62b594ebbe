"""Draw the softmax and circulant attention of one patch of an image side by side.

Each row shows one block: the image with the marked patch, its softmax attention (mean over heads),
its circulant attention, and the circulant kernel with displacement (0, 0) in the center. Colors
show the square root of the weights.

If CHECKPOINT contains softmax weights, the circulant attention is the nearest circulant matrix to
the softmax attention, as in `mmca analyze`. If it contains circulant weights, such as those from
`mmca distill`, the command draws the circulant attention of the blocks; add --teacher to draw the
softmax attention of the original as well.
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
    blocks = 'block numbers, starting at 0; default: 4 blocks'
    add('--blocks', nargs='+', type=int, metavar='I', help=blocks)
    heads = 'draw kernels of these heads, starting at 0, instead of the mean over all; by default, '
    heads += 'circulant attention has one head per channel'
    add('--heads', '--channels', nargs='+', type=int, metavar='I', help=heads)
    pixel = 'pixel in the patch to draw; default: the center'
    add('--at', nargs=2, type=int, metavar=('X', 'Y'), help=pixel)
    add('--side', type=int, default=224, help='resize the shorter side to SIDE; default 224')
    add('--teacher', metavar='FILE', help='weights of the softmax original')
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
