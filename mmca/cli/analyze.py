"""Measure which blocks of a softmax network do not need softmax, and recommend an `attn`.

The command runs the softmax original of CONFIG's backbone with the weights in CHECKPOINT on images.

The first table shows how well simple matrices explain each attention matrix A (N x N, per head and
image), as a share of |A - 1/N|^2: `circulant` matrices depend only on displacements; in `columns`,
all queries attend to the same keys; `both` combines them with logits g_a a_{m-n} + g_b b_m, the
projection of log A. Each head has its best gains; `g_a` and `g_b` are their means. A key of a
spatial reduction represents all its patches, and windows are blocks of the N x N matrix. `entropy`
is 1 if all patches have the same weight.

The second table shows the error of the whole network after conversion, without training. Each row
converts one more stage (in DeiT, one more block): the one with the smallest loss per saved
multiply-add. `error` is the relative error of the output maps compared with attn=S. The command
recommends the cheapest mixture whose error is at most --loss.
"""

import argparse
import hashlib
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from mmca.cli import arguments
from mmca.cli.table import print_table
from mmca.config.packages import FULL_STACK
from mmca.config.reader import load_config
from mmca.errors import InputError

REQUIRES = (*FULL_STACK, 'matplotlib')
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny --images data/coco/val2017 --out analysis"""
SHARES = ('circulant', 'columns', 'both')
SETTINGS = ('config', 'cfg_options', 'images', 'number', 'side', 'loss')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_config(parser)
    add = parser.add_argument
    weights = f'softmax weights of the same size: {arguments.WEIGHTS_HELP}'
    add('checkpoint', metavar='CHECKPOINT', help=weights)
    add('--images', nargs='+', required=True, metavar='DIR', help='folders of images')
    number = 'number of images, evenly spaced over the folders; default 10'
    add('--number', type=int, default=10, help=number)
    side = 'crop the largest centered square and resize it to SIDE; default 224'
    add('--side', type=int, default=224, help=side)
    loss = 'largest relative error of the output maps before training, from 0 (the softmax '
    loss += 'network) to 1 (all zeros); default 0.5'
    add('--loss', type=float, default=0.5, help=loss)
    add('--out', metavar='DIR', help='folder for analysis.json and analysis.png')
    arguments.add_shape(parser, 'image size for counting multiply-adds; default --side')
    arguments.add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from mmca import __version__
    from mmca.analysis.images import middle_views, spread
    from mmca.analysis.recommendation import analyze
    from mmca.checkpoint import find_file
    from mmca.io import atomic_write

    if args.number < 1:
        raise InputError(f'--number {args.number}: must be at least 1')
    if args.loss < 0:
        raise InputError(f'--loss {args.loss:g}: must not be negative')
    if args.out and not Path(args.out).parent.is_dir():
        raise InputError(f'--out {args.out}: must be in a folder that exists')
    shape = tuple(args.shape or (args.side, args.side))
    cfg = load_config(args.config, args.cfg_options)
    files = spread(args.images, args.number)
    views = middle_views(files, args.side, cfg)
    found = analyze(cfg, args.checkpoint, views, args.loss, shape)
    used = f'{len(files)} images of {args.side} x {args.side}'
    at = f'at {shape[0]} x {shape[1]}'
    print(f'{used}; million multiply-adds (M) of the block {at}')
    rows, costs = found.rows(), [f'{letter} M' for letter in found.macs]
    header = ('block', 'grid', 'heads', *SHARES, 'g_a', 'g_b', 'entropy', *costs, 'attn')
    print_table(header, map(_cells, rows))
    print(f'\nconverted without training; multiply-adds (G) of the backbone {at}')
    mixtures = []
    for mixture in found.path:
        saved = f'{1 - mixture.macs / found.path[0].macs:.1%}'
        note = 'recommended' if mixture == found.best else ''
        cost = f'{mixture.macs / 1e9:.2f}'
        mixtures.append((mixture.attn, f'{mixture.error:.3f}', cost, saved, note))
    print_table(('attn', 'error', 'G', 'saved', ''), mixtures)
    start = {'type': 'Pretrained', 'checkpoint': args.checkpoint}
    options = [*args.cfg_options, *arguments.backbone_options({**found.options, 'init_cfg': start})]
    print('\nto use the recommendation (change it with --loss):')
    print(f'  mmca train {args.config} --cfg-options {shlex.join(options)}')
    if args.out:
        folder, weights = Path(args.out), find_file(args.checkpoint)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        content = {
            'attn': found.best.attn,
            'path': [asdict(mixture) for mixture in found.path],
            'blocks': rows,
            'shape': shape,
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
    grid, gains = '{} x {}'.format(*block['grid']), block['gains']
    shares = (f'{block[name]:.3f}' for name in SHARES)
    means = (f'{fmean(values):.2f}' for values in zip(*gains))
    macs = (f'{macs / 1e6:.1f}' for macs in block['macs'].values())
    figures = (*shares, *means, f'{block["entropy"]:.3f}', *macs)
    return block['path'], grid, len(gains), *figures, block['attn']
