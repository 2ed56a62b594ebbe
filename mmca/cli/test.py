"""Test a detector (mmdet), a segmentor (mmseg) or a classifier (mmpretrain).

Data, classes and checkpoint are checked first. Other flags go to that library's own tool.
"""

import argparse

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.cli.library_tool import add_common_flags, run_tool
from mmca.config.packages import FULL_STACK

REQUIRES = FULL_STACK
EXTRA_FLAGS = True
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_pvt_s work_dirs/maskrcnn_ca_pvt_s/epoch_12.pth --show-dir images

Several processes, one per GPU (or on CPUs where there is no GPU):
  torchrun --nproc_per_node 8 -m mmca test CONFIG CHECKPOINT --launcher pytorch
In a checkout, tools/dist_test.sh CONFIG CHECKPOINT GPUS is the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all three libraries' tools understand."""
    add_config(parser)
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='a .pth file that training wrote; of a classifier also a third-party one',
    )
    parser.add_argument(
        '--out', help='predictions: a .pkl file (mmdet, mmpretrain), a folder (mmseg)'
    )
    parser.add_argument(
        '--out-item', choices=('pred', 'metrics'), help='mmpretrain: what goes to --out'
    )
    parser.add_argument('--show', action='store_true', help='show the images')
    parser.add_argument('--show-dir', help='folder for the images; mmdet: in the work dir')
    parser.add_argument('--wait-time', type=float, help='seconds per image with --show')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_cfg_options(parser, 'test_dataloader.batch_size=4')
    add_common_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Test; returns the exit code."""
    return run_tool('test', args)
