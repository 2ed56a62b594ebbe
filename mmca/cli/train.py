"""Train a detector (mmdet), segmentor (mmseg) or classifier (mmpretrain).

Runs that library's tools/train.py with all arguments after CONFIG, such as --work-dir DIR, --amp,
--resume, --launcher pytorch, --cfg-options KEY=VALUE ...; mmdet and mmpretrain also take
--auto-scale-lr. `mmca.Runner` checks data, heads and weights before the first iteration.
"""

import argparse

from mmca.cli.arguments import add_config
from mmca.config.packages import FULL_STACK

REQUIRES = FULL_STACK
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_pvt_s --amp --auto-scale-lr
  %(prog)s coco/maskrcnn_ca_pvt_s --resume
  %(prog)s my_config.py --cfg-options train_dataloader.batch_size=4

Several processes, one per GPU, or on CPUs without a GPU, on one machine or two:
  torchrun --nproc_per_node 8 -m mmca train CONFIG --launcher pytorch
  torchrun --nnodes 2 --node_rank 0 --master_addr HOST --nproc_per_node 8 \\
      -m mmca train CONFIG --launcher pytorch        and with --node_rank 1 there
In a checkout, tools/dist_train.sh CONFIG GPUS does the same. Under slurm:
  srun --ntasks 8 --gres gpu:8 --kill-on-bad-exit mmca train CONFIG --launcher slurm"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        'words', nargs=argparse.REMAINDER, metavar='...', help="arguments for the library's tool"
    )


def run(args: argparse.Namespace) -> int:
    from mmca.engine.launch import launch

    return launch('train', args.config, args.words)
