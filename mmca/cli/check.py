"""Run the checks that precede training, without training.

Files and folders, class names, numbers of classes, annotations, the model and the checkpoint. Ends
with the exit code 0 and a table of what was found, or 2 and the first problem in one line.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.config.packages import FULL_STACK, import_datasets

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmca.checks import Findings

REQUIRES = FULL_STACK
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_pvt_s
  %(prog)s coco/maskrcnn_ca_pvt_s --images
  %(prog)s my_config.py --load-from detector.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='check a checkpoint to go on from; without one, the last in the work dir',
    )
    start.add_argument(
        '--load-from', metavar='CHECKPOINT', help='check a checkpoint of a whole model'
    )
    parser.add_argument(
        '--images',
        action='store_true',
        help='decode all images, masks and label maps of training and validation; names all that '
        'cannot be used',
    )
    parser.add_argument('--work-dir', help='where --resume looks; default work_dirs/CONFIG')
    add_cfg_options(parser)


def checked(args: argparse.Namespace) -> tuple[Config, Findings]:
    """Run all checks of a training.

    Args:
        args: the parsed command line.

    Returns:
        The config with its options merged, and what the checks found.

    Raises:
        InputError: whatever the user has to fix first.
    """
    from mmca.cli.library_tool import default_work_dir
    from mmca.cli.run_errors import explained
    from mmca.config.reader import library_of, load_config
    from mmca.checks import build_parts, check
    from mmca.config.models import check_start

    cfg = load_config(args.config, args.cfg_options)
    library = library_of(cfg, args.config)
    import_datasets(library)
    if args.load_from is not None:
        cfg.load_from = args.load_from
    work_dir = default_work_dir(args, cfg)
    with explained(cfg, 'train', work_dir):
        found = check('train', args, cfg, library, work_dir, build_model=True, images=args.images)
        build_parts(cfg, library, found.model)
        check_start(found.model)
    return cfg, found


def run(args: argparse.Namespace) -> int:
    """Check and print the table; returns the exit code."""
    from mmca.checks import read_every_image

    cfg, found = checked(args)
    print(found.summary)
    rows = [('data set', 'type', 'images', 'used', 'classes', 'source')]
    for split in found.splits:
        data = split.dataset
        source = data.ann_file or next(iter(data.data_prefix.values()), data.data_root)
        counts = split.images, len(data), len(split.classes)
        rows.append((split.key, type(data).__name__, *map(str, counts), source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    backbone = getattr(found.model, 'backbone', None)
    millions = sum(p.numel() for p in found.model.parameters()) / 1e6
    print(
        f'model: {type(found.model).__name__}, backbone {type(backbone).__name__}, '
        f'{millions:.2f} M parameters'
    )
    if found.checkpoint is None:
        print(f'checkpoint: none; {_start(cfg)}')
    else:
        print(f'checkpoint: {found.checkpoint}; {found.counts or "an address, not looked at"}')
    if args.images:
        read_every_image(found.splits)
    return 0


def _start(cfg) -> str:
    """Where the weights come from without a checkpoint of the whole model."""
    weights = (cfg.model.get('backbone') or {}).get('init_cfg') or {}
    if weights.get('checkpoint'):
        return f'the backbone starts from {weights["checkpoint"]}'
    return 'training starts from scratch'
