"""List published weights, or download weights and print their paths.

You can use the names wherever mmca reads a checkpoint; mmca downloads the files on first use. It
keeps them in torch's cache (TORCH_HOME) and verifies their SHA-256. You can also put files there
yourself.
"""

from __future__ import annotations

import argparse

from mmca.cli.table import print_table

REQUIRES = ('torch', 'mmengine', 'rich')
EPILOG = """\
examples:
  %(prog)s
  %(prog)s pvt_small
  mmca config coco/maskrcnn_ca_pvt_s --backbone ca_pvt_s --weights pvt_small --out my_config.py

To download from your own copy of the files, set MMCA_WEIGHTS_MIRROR=http://HOST/FOLDER."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = 'weights to download; default: print the table of all names'
    parser.add_argument('names', nargs='*', metavar='NAME', help=names)


def run(args: argparse.Namespace) -> int:
    from mmca.checkpoint import KNOWN, find_file

    if args.names:
        for name in args.names:
            print(find_file(name))
        return 0
    header = ('name', 'for', 'from', 'license', 'MB', 'SHA-256', 'in the cache')
    print_table(header, map(_row, KNOWN.values()))
    return 0


def _row(known) -> tuple:
    from mmca.backbones.catalog import names_for

    cached = 'yes' if known.path.is_file() else ''
    license, size, sha256 = known.release.license, known.megabytes, known.sha256[:8]
    names = ', '.join(names_for(known))
    return known.name, names, known.release.repository, license, size, sha256, cached
