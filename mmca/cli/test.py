"""Evaluate a detector (mmdet), segmentor (mmseg) or classifier (mmpretrain) on its test set.

The command passes all arguments after CONFIG to tools/test.py of that library. These include
--work-dir DIR, --out FILE, --show-dir DIR, --tta, --launcher pytorch, and
--cfg-options KEY=VALUE ... For classifiers, CHECKPOINT can be a third-party file.
"""

import argparse

from mmca.cli.arguments import add_config
from mmca.config.packages import FULL_STACK

REQUIRES = FULL_STACK
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_pvt_s work_dirs/maskrcnn_ca_pvt_s/epoch_12.pth --show-dir images

To use several processes, one per GPU, or on CPUs if there is no GPU:
  torchrun --nproc_per_node 8 -m mmca test CONFIG CHECKPOINT --launcher pytorch
In a checkout, tools/dist_test.sh CONFIG CHECKPOINT GPUS does the same."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a .pth file')
    parser.add_argument(
        'words', nargs=argparse.REMAINDER, metavar='...', help='arguments for tools/test.py'
    )


def run(args: argparse.Namespace) -> int:
    from mmca.engine.launch import launch

    return launch('test', args.config, [args.checkpoint, *args.words])
