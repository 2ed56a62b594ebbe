"""Measure how much of softmax attention is circulant, and recommend stages to convert.

The softmax original of CONFIG's backbone runs with the weights in CHECKPOINT on some images. For
each attention matrix A (N x N, per head and image), `explained` is the share of |A - 1/N|^2 that
the nearest circulant matrix has: 1 if A depends on displacements alone. `random` is its expected
value with the entries of every row shuffled, 1/N; `entropy` is 1 if all patches weigh the same.
Keys of a spatial reduction stand for all their patches, windows are blocks of an N x N matrix, and
neither moves with the query: 7 x 7 windows of equal weights score 0.42 on a 28 x 28 grid.

Stages (PVT, Swin) or blocks (DeiT) that explain enough are recommended for circulant attention.
"""

import argparse
import hashlib
import json
from pathlib import Path

from mmca.cli.arguments import add_cfg_options, add_config, add_shape
from mmca.cli.table import print_table
from mmca.config.packages import FULL_STACK
from mmca.config.reader import load_config
from mmca.errors import InputError

REQUIRES = (*FULL_STACK, 'matplotlib')
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny_patch16_224.pth --images data/coco/val2017 \\
      --out analysis"""
FIGURES = ('explained', 'random', 'entropy', 'softmax M', 'circulant M')
SETTINGS = ('config', 'cfg_options', 'images', 'number', 'side', 'threshold')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help='softmax weights of the same size')
    add('--images', nargs='+', required=True, metavar='DIR', help='folders of images')
    number = 'number of images, evenly spaced over the folders; default 10'
    add('--number', type=int, default=10, help=number)
    side = 'size that the largest centered square is resized to; default 224'
    add('--side', type=int, default=224, help=side)
    threshold = 'smallest `explained` of a circulant stage; default 0.6. A lower one makes more '
    threshold += 'stages circulant, and their results less like those of softmax attention'
    add('--threshold', type=float, default=0.6, help=threshold)
    add('--out', metavar='DIR', help='write analysis.json and analysis.png here')
    add_shape(parser, 'image size for counting multiply-adds; default --side')
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from mmca import __version__
    from mmca.analysis import stage_shares
    from mmca.analysis.images import middle_views, spread
    from mmca.analysis.recommendation import analyze
    from mmca.io import atomic_write

    if args.number < 1:
        raise InputError(f'--number {args.number}: must be at least 1')
    if args.out and not Path(args.out).parent.is_dir():
        raise InputError(f'--out {args.out}: must be in a folder that exists')
    shape = tuple(args.shape or (args.side, args.side))
    cfg = load_config(args.config, args.cfg_options)
    files = spread(args.images, args.number)
    views = middle_views(files, args.side, cfg)
    found = analyze(cfg, args.checkpoint, views, args.threshold, shape)
    used = f'{len(files)} images of {args.side} x {args.side}'
    at = f'at {shape[0]} x {shape[1]}'
    print(f'{used}; million multiply-adds (M) of the block {at}')
    rows = found.rows()
    print_table(('block', 'grid', 'heads', *FIGURES, 'attn'), map(_cells, rows))
    advice = f'recommended:\n  --cfg-options model.backbone.attn={found.attn}'
    least = f'{args.threshold:g} or more'
    print(f'\nexplained {least}, {advice}' if 'C' in found.attn else f'\nno stage explains {least}')
    print(f'multiply-adds of the backbone {at} (without class token):')
    for name, macs in found.totals.items():
        saved = macs / found.totals['S'] - 1
        print(f"  attn='{name}'".ljust(26) + f'{macs / 1e9:8.2f} G  {saved:+.1%}')
    if args.out:
        folder, weights = Path(args.out), Path(args.checkpoint)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        content = {
            'attn': found.attn,
            'stages': stage_shares(found.blocks),
            'blocks': rows,
            'macs': {'shape': shape, **found.totals},
            'settings': {name: getattr(args, name) for name in SETTINGS},
            'files': list(map(str, files)),
            'checkpoint': {'file': weights.name, 'sha256': digest},
            'versions': {'mmca': __version__, 'torch': str(torch.__version__)},
        }
        folder.mkdir(exist_ok=True)
        with atomic_write(folder / 'analysis.json', 'w') as file:
            json.dump(content, file, indent=1)
        with atomic_write(folder / 'analysis.png') as file:
            found.plot(f'{weights.name}, {used}').savefig(file, format='png', dpi=120)
        print(f'wrote {folder / "analysis.json"}, {folder / "analysis.png"}')
    return 0


def _cells(block: dict) -> tuple:
    grid, heads = '{} x {}'.format(*block['grid']), len(block['explained_by_head'])
    softmax, circulant = (macs / 1e6 for macs in block['macs'].values())
    figures = (f'{block[name]:{len(name)}.3f}' for name in FIGURES[:3])
    macs = (f'{softmax:9.1f}', f'{circulant:11.1f}')
    return block['path'], grid, heads, *figures, *macs, block['attn']
