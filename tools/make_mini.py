"""Write the synthetic data set of configs/mini: python tools/make_mini.py [--out DIR].

Writes the same images in COCO and ADE20K layout, and single-object images in ImageNet layout. Takes
a minute. The images depend only on the seed.
"""

import argparse
import os
import sys
from pathlib import Path

from mini import make_mini
from mmca.cli.main import guarded
from mmca.errors import InputError


def main() -> int:
    """Write the data set; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    out = str(Path(os.environ.get('MMCA_DATA_ROOT', 'data'), 'mini'))
    add('--out', default=out, help='output folder; default data/mini, or mini in MMCA_DATA_ROOT')
    add('--train', type=int, default=720, help='training images; default 720')
    add('--val', type=int, default=48, help='validation images; default 48')
    size = 'image size in pixels; default 160 128'
    add('--size', type=int, nargs=2, default=(160, 128), metavar=('W', 'H'), help=size)
    add('--seed', type=int, default=0, help='random seed; default 0')
    add('--force', action='store_true', help='replace another synthetic data set')
    args = parser.parse_args()
    try:
        print(make_mini(**vars(args)))
    except OSError as error:
        raise InputError(str(error)) from error
    return 0


if __name__ == '__main__':
    sys.exit(guarded(main))
