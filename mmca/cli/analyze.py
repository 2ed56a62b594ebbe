"""Tell which attentions of a softmax network a circulant one can replace.

The softmax original of CONFIG's backbone runs with the weights in CHECKPOINT on some images. For
each attention matrix A (N x N, a head, an image), `explained` is the share of |A - 1/N|^2 that
the nearest circulant matrix has: 1 if A depends on displacements alone, 0 if that tells nothing;
`random` is the same after the entries of every row were shuffled. `entropy` is that of the rows,
1 where all patches have the same weight. Keys of a spatial reduction stand for all their patches;
windows are blocks of an N x N matrix. Neither moves with the query: windows of 7 x 7 with equal
weights have 0.42 on a grid of 28 x 28.

Stages (PVT, Swin) or blocks (DeiT) that explain enough are recommended for circulant attention.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_config, add_shape
from mmca.config.packages import FULL_STACK, require
from mmca.config.reader import library_of, load_config
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor

    from mmca.analysis import BlockShare

REQUIRES = FULL_STACK
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny_patch16_224.pth --images data/coco/val2017 \\
      --out analysis"""
MIN_SIDE = 32
MEGA, GIGA = 1e6, 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='softmax weights of that size')
    parser.add_argument('--images', nargs='+', required=True, metavar='DIR', help='folders')
    parser.add_argument(
        '--number', type=int, default=10, help='images, spread evenly over the files; default 10'
    )
    parser.add_argument(
        '--side',
        type=int,
        default=224,
        help='the largest square in the middle of an image is resized to it; default 224',
    )
    parser.add_argument(
        '--threshold',
        type=float,
        default=0.6,
        help='least `explained` of a circulant stage; default 0.6. A lower one makes more stages '
        'circulant, and their results less like those of softmax attention',
    )
    add_shape(parser, 'size of the image for which multiply-adds are counted; default --side')
    parser.add_argument('--out', metavar='DIR', help='where to write analysis.json, analysis.png')
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write; returns the exit code."""
    from mmca.analysis import measure_blocks, recommend
    from mmca.analysis.trained_backbone import backbone_settings, softmax_backbone
    from mmca.distill.images import find_images

    shape = _check(args)
    cfg = load_config(args.config, args.cfg_options)
    library_of(cfg, args.config)
    settings = backbone_settings(cfg, args.config)
    model = softmax_backbone(settings, args.checkpoint)
    files = spread(find_images(args.images), args.number)
    blocks = measure_blocks(model, _views(files, args.side, cfg))
    attn = recommend(blocks, args.threshold)
    costs, totals = count_costs(settings, attn, shape)
    print(table(blocks, attn, costs, len(files), args.side, shape))
    print()
    if 'C' in attn:
        print(f"recommended (explained >= {args.threshold:g}): attn='{attn}'")
        print(f'  --cfg-options model.backbone.attn={attn}')
    else:
        print(f"none explains {args.threshold:g} or more: attn='{attn}'")
    print(f'multiply-adds of the backbone at {shape[0]} x {shape[1]} (without class token):')
    for name, macs in totals.items():
        change = macs / totals['S'] - 1
        print(f"  attn='{name}'".ljust(26) + f'{macs / GIGA:8.2f} G  {change:+.1%}')
    if args.out:
        write(Path(args.out), args, files, blocks, attn, costs, totals, shape)
    return 0


def _check(args: argparse.Namespace) -> tuple[int, int]:
    """Refuse values out of range; returns the size that costs are counted at."""
    shape = tuple(args.shape or (args.side, args.side))
    if args.side < MIN_SIDE or min(shape) < MIN_SIDE:
        raise InputError(f'--side and --shape must be at least {MIN_SIDE}')
    if args.number < 1:
        raise InputError(f'--number must be 1 or more, got {args.number}')
    if not 0 <= args.threshold <= 1:
        raise InputError(f'--threshold must be from 0 to 1, got {args.threshold}')
    if args.out:
        require('matplotlib')
        if Path(args.out).exists() and not Path(args.out).is_dir():
            raise InputError(f'--out {args.out} is a file: name a folder')
    return shape


def spread(files: Sequence[str], number: int) -> list[str]:
    """At most `number` of some files, evenly spaced: folders are often sorted by class."""
    number = min(number, len(files))
    return [files[i * len(files) // number] for i in range(number)]


def _views(files: Sequence[str], side: int, cfg: Config) -> Iterator[Tensor]:
    """Normalized images, one after another, with a line of progress on a terminal."""
    from mmca.analysis.trained_backbone import normalize
    from mmca.distill.images import middle_view, read_image

    shown = sys.stderr.isatty()
    for i, file in enumerate(files):
        if shown:
            print(f'\rimage {i + 1} of {len(files)}', end='', file=sys.stderr, flush=True)
        yield normalize(middle_view(read_image(file), side), cfg)
    if shown:
        print(file=sys.stderr)


def count_costs(
    settings: dict, attn: str, shape: tuple[int, int]
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Multiply-adds with softmax, with circulant and with the recommended attention.

    Args:
        settings: of the backbone.
        attn: the recommendation.
        shape: (H, W) of the image.

    Returns:
        'S' and 'C' -> path of a block -> multiply-adds; and 'S', 'C' and `attn` -> those of the
        whole backbone.
    """
    import torch
    from mmengine.registry import MODELS

    from mmca.analysis import block_macs, count_flops
    from mmca.analysis.trained_backbone import softmax_settings

    common = {'attn_cfg': settings.get('attn_cfg'), **softmax_settings(settings)}
    costs, totals = {}, {}
    for name in dict.fromkeys(('S', 'C', attn)):
        with torch.device('meta'):  # shapes are all that counts
            model = MODELS.build({**common, 'attn': name}).eval()
            images = torch.empty(1, 3, *shape)
            totals[name] = count_flops(model, images).macs
            if name in ('S', 'C'):
                costs[name] = block_macs(model, images)
    return costs, totals


def table(
    blocks: Sequence[BlockShare],
    attn: str,
    costs: dict[str, dict[str, int]],
    images: int,
    side: int,
    shape: tuple[int, int],
) -> str:
    """The figures of every block, aligned.

    Args:
        blocks: measured.
        attn: the recommendation.
        costs: from :func:`count_costs`.
        images: their number.
        side: of the views.
        shape: that multiply-adds are counted at.
    """
    lines = [
        f'{images} images of {side} x {side}; million multiply-adds (M) of the block at '
        f'{shape[0]} x {shape[1]}',
        f'{"block":20}{"grid":>9}{"heads":>7}{"explained":>11}{"random":>9}{"entropy":>9}'
        f'{"softmax M":>11}{"circulant M":>13}{"attn":>6}',
    ]
    for block in blocks:
        path = block.path.removesuffix('.attn')
        grid = f'{block.grid[0]} x {block.grid[1]}'
        lines.append(
            f'{path:20}{grid:>9}{len(block.explained_by_head):7}{block.explained:11.3f}'
            f'{block.random:9.4f}{block.entropy:9.3f}{costs["S"][path] / MEGA:11.1f}'
            f'{costs["C"][path] / MEGA:13.1f}{attn[block.stage]:>6}'
        )
    return '\n'.join(lines)


def write(
    folder: Path,
    args: argparse.Namespace,
    files: Sequence[str],
    blocks: Sequence[BlockShare],
    attn: str,
    costs: dict[str, dict[str, int]],
    totals: dict[str, int],
    shape: tuple[int, int],
) -> None:
    """Write analysis.json and analysis.png.

    Args:
        folder: created if missing.
        args: the parsed command line.
        files: the images.
        blocks, attn, costs, totals, shape: as for :func:`table` and from :func:`count_costs`.
    """
    import torch

    from mmca import __version__
    from mmca.analysis import stage_shares
    from mmca.analysis.plots import plot_shares
    from mmca.io import atomic_write

    rows = []
    for block in blocks:
        path = block.path.removesuffix('.attn')
        macs = {'softmax': costs['S'][path], 'circulant': costs['C'][path]}
        rows.append({**asdict(block), 'path': path, 'attn': attn[block.stage], 'macs': macs})
    content = {
        'attn': attn,
        'stages': stage_shares(blocks),
        'blocks': rows,
        'macs': {'shape': shape, **totals},
        'settings': {
            name: getattr(args, name)
            for name in ('config', 'cfg_options', 'images', 'number', 'side', 'threshold')
        },
        'files': list(files),
        'checkpoint': {
            'file': Path(args.checkpoint).name,
            'sha256': hashlib.sha256(Path(args.checkpoint).read_bytes()).hexdigest(),
        },
        'versions': {'mmca': __version__, 'torch': str(torch.__version__)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / 'analysis.json', 'w') as file:
        file.write(json.dumps(content, indent=1) + '\n')
    title = f'{Path(args.checkpoint).name}, {len(files)} images of {args.side} x {args.side}'
    with atomic_write(folder / 'analysis.png') as file:
        plot_shares(blocks, attn, args.threshold, title).savefig(file, format='png', dpi=120)
    print(f'written: {folder / "analysis.json"}, {folder / "analysis.png"}')
