"""Check data, model and weights without training.

The command builds data sets, model, optimizer and hooks like `mmca train`, checks them, and stops
before the first iteration. The exit status is 0, or 2 with one line about the first problem.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.cli.table import print_table
from mmca.config.packages import FULL_STACK
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmca.engine import Runner

REQUIRES = FULL_STACK
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_pvt_s
  %(prog)s coco/maskrcnn_ca_pvt_s --images
  %(prog)s my_config.py --load-from detector.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    start = parser.add_mutually_exclusive_group()
    resume = 'check a resume from CHECKPOINT; default: the last one in the work dir'
    start.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT', help=resume)
    start.add_argument('--load-from', metavar='CHECKPOINT', help='check weights of the whole model')
    images = 'decode every image, mask and label map, and list the unusable ones'
    parser.add_argument('--images', action='store_true', help=images)
    parser.add_argument('--work-dir', help='work dir of --resume; default work_dirs/CONFIG')
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    from mmca.checks import check_every_image, splits_of

    runner = check_config(args.config, args.cfg_options, args.resume, args.load_from, args.work_dir)
    splits = splits_of({'train': runner.train_loop, 'val': runner.val_loop})
    rows = [
        (s.key, type(s.dataset).__name__, len(s.dataset), len(s.classes), s.source) for s in splits
    ]
    print_table(('data set', 'type', 'images', 'classes', 'source'), rows)
    model = runner.model
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    backbone = type(getattr(model, 'backbone', None)).__name__
    print(f'model: {type(model).__name__}, backbone {backbone}, {millions:.2f} M parameters')
    print(f'checkpoint: {runner.cfg.get("load_from") or "none"}')
    if args.images:
        problems = {split.key: check_every_image(split.key, split.dataset) for split in splits}
        for key, lines in problems.items():
            print(''.join(f'{key}: {line}\n' for line in lines), end='')
        if any(problems.values()):
            counts = ', '.join(f'{len(lines)} of {key}' for key, lines in problems.items() if lines)
            raise InputError(f'these images cannot be used: {counts}; replace or remove them')
    return 0


def check_config(
    config: str,
    options: list[str] = (),
    resume: str | None = None,
    load_from: str | None = None,
    work_dir: str | None = None,
) -> Runner:
    """Build a training and check it, with the options of `mmca check`; resume may be 'auto'.

    Returns:
        The runner, stopped before the first iteration; its work dir is gone.

    Raises:
        InputError: the config cannot be read.
        SystemExit: something has to be fixed first; the reason is on stderr.
    """
    from mmca.config.reader import load_config
    from mmca.engine import Runner
    from mmca.engine.checkpoint_hook import find_last

    cfg = load_config(config, options)
    if resume == 'auto':
        resume = find_last(work_dir or cfg.get('work_dir') or f'work_dirs/{Path(config).stem}')
    cfg.resume, cfg.load_from = resume is not None, resume or load_from or cfg.get('load_from')
    cfg.log_level = 'ERROR'
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        cfg.work_dir = folder
        # mmengine keeps visualizers by name, with their folders.
        cfg.visualizer = {**(cfg.get('visualizer') or {'type': 'Visualizer'}), 'name': folder}
        runner = Runner.from_cfg(cfg)
        runner.check()
    return runner
