"""Write the synthetic data set of the mini configs, from a seed.

The same images in COCO instance and in ADE20K layout, and others, of one thing each, in ImageNet
layout; a minute.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmca.errors import InputError

REQUIRES = ('numpy', 'cv2', 'pycocotools')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        '--out',
        default=str(Path(os.environ.get('MMCA_DATA_ROOT', 'data'), 'mini')),
        help='folder to fill; default mini in data, or in MMCA_DATA_ROOT',
    )
    parser.add_argument('--train', type=int, default=720, help='training images; default 720')
    parser.add_argument('--val', type=int, default=48, help='validation images; default 48')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(160, 128),
        metavar=('W', 'H'),
        help='in pixels; default 160 128',
    )
    parser.add_argument('--seed', type=int, default=0, help='of everything random; default 0')
    parser.add_argument('--force', action='store_true', help='replace a synthetic data set')


def run(args: argparse.Namespace) -> int:
    """Write the data set; returns the exit code."""
    from tools.mini import make_mini

    try:
        print(make_mini(**vars(args)))
    except OSError as error:
        raise InputError(str(error)) from error
    return 0
