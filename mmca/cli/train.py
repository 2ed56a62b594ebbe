"""Train a detector (mmdet), a segmentor (mmseg) or a classifier (mmpretrain).

Data, classes and checkpoint are checked first. Other flags go to that library's own tool.
"""

import argparse

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.cli.library_tool import add_common_flags, add_translated_flags, run_tool
from mmca.config.packages import FULL_STACK

REQUIRES = FULL_STACK
EXTRA_FLAGS = True
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_pvt_s --amp --auto-scale-lr
  %(prog)s coco/maskrcnn_ca_pvt_s --resume
  %(prog)s my_config.py --cfg-options train_dataloader.batch_size=4

Several processes, one per GPU (or on CPUs where there is no GPU), on one machine or on two:
  torchrun --nproc_per_node 8 -m mmca train CONFIG --launcher pytorch
  torchrun --nnodes 2 --node_rank 0 --master_addr HOST --nproc_per_node 8 \\
      -m mmca train CONFIG --launcher pytorch        and with --node_rank 1 there
In a checkout, tools/dist_train.sh CONFIG GPUS is the same. Under slurm:
  srun --ntasks 8 --gres gpu:8 --kill-on-bad-exit mmca train CONFIG --launcher slurm"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all three libraries' tools understand."""
    add_config(parser)
    parser.add_argument('--amp', action='store_true', help='mixed precision, GPU only')
    add_translated_flags(parser)
    parser.add_argument(
        '--no-validate', action='store_true', help='mmpretrain: train without validation'
    )
    add_cfg_options(parser, 'train_dataloader.batch_size=4')
    add_common_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    return run_tool('train', args)
