"""Train a detector (mmdet), segmentor (mmseg) or classifier (mmpretrain).

The command passes all arguments after CONFIG to tools/train.py of that library. These include
--work-dir DIR, --amp, --resume, --launcher pytorch, and --cfg-options KEY=VALUE ... mmdet and
mmpretrain also accept --auto-scale-lr. `mmca.Runner` checks data, heads and weights before the
first iteration.
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

To use several processes, one per GPU, or on CPUs if there is no GPU:
  torchrun --nproc_per_node 8 -m mmca train CONFIG --launcher pytorch
On two machines, run this on the first, and with --node_rank 1 on the second:
  torchrun --nnodes 2 --node_rank 0 --master_addr HOST --nproc_per_node 8 \\
      -m mmca train CONFIG --launcher pytorch
In a checkout, tools/dist_train.sh CONFIG GPUS does the same. Under slurm:
  srun --ntasks 8 --gres gpu:8 --kill-on-bad-exit mmca train CONFIG --launcher slurm"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        'words', nargs=argparse.REMAINDER, metavar='...', help='arguments for tools/train.py'
    )


def run(args: argparse.Namespace) -> int:
    from mmca.engine.launch import launch

    return launch('train', args.config, args.words)
