"""Draw what a patch of an image attends to, with softmax and with circulant attention.

A row a block: the image with the patch marked, its softmax attention (mean of the heads), its
circulant attention, and the circulant kernel with displacement 0, 0 in the middle. Colors go by
the square root of the weights.

With softmax weights in CHECKPOINT the circulant attention is the nearest circulant matrix to the
softmax attention, as in `mmca analyze`. With weights of a circulant backbone, such as `mmca
transfer` writes, it is the block's own, and --teacher adds the softmax attention of the original.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_config
from mmca.config.packages import FULL_STACK
from mmca.config.reader import library_of, load_config
from mmca.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mmca.analysis import AttentionInput
    from mmca.analysis.plots import Row

REQUIRES = (*FULL_STACK, 'matplotlib')
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_deit_t deit_tiny_patch16_224.pth dog.jpg --out kernels.png
  %(prog)s coco/maskrcnn_ca_deit_t ca_deit_t.pth dog.jpg --out kernels.png \\
      --teacher deit_tiny_patch16_224.pth --blocks 0 3 --channels 0 64 128 --at 300 200"""
MAX_ASPECT = 8  # longer over shorter side of an image
UNIT = 32  # sides of the resized image are multiples of it
SHOWN = 4  # blocks, if none are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='weights of that size')
    parser.add_argument('image', metavar='IMAGE', help='an image file')
    parser.add_argument('--out', required=True, metavar='FILE', help='the resulting .png file')
    parser.add_argument(
        '--blocks', nargs='+', type=int, metavar='I', help=f'counted from 0; default {SHOWN} of all'
    )
    parser.add_argument(
        '--heads',
        '--channels',
        nargs='+',
        type=int,
        metavar='I',
        help='a kernel for each of these heads, from 0; circulant attention has a head a channel '
        'by default; default is the mean of all',
    )
    parser.add_argument(
        '--at', nargs=2, type=int, metavar=('X', 'Y'), help='pixel of the image; default its middle'
    )
    parser.add_argument(
        '--side', type=int, default=224, help='the shorter side is resized to it; default 224'
    )
    parser.add_argument('--teacher', metavar='FILE', help='softmax weights of the original')
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    """Draw; returns the exit code."""
    import torch

    from mmca.analysis import attention_inputs
    from mmca.analysis.plots import plot_kernels
    from mmca.analysis.trained_backbone import (
        backbone_settings,
        normalize,
        own_backbone,
        softmax_backbone,
    )
    from mmca.io import atomic_write

    out = Path(args.out)
    if out.suffix != '.png' or not out.parent.is_dir():
        raise InputError(f'--out {out}: must be a .png file in a folder that exists')
    cfg = load_config(args.config, args.cfg_options)
    library_of(cfg, args.config)
    settings = backbone_settings(cfg, args.config)
    image, place = prepare_image(args.image, args.at, args.side)
    inputs = normalize(torch.from_numpy(image).permute(2, 0, 1), cfg)[None]
    own = own_backbone(settings, args.checkpoint)
    model = softmax_backbone(settings, args.checkpoint) if own is None else own
    if own is None and args.teacher:
        raise InputError(
            f'--teacher goes with weights of a circulant backbone, {args.checkpoint} has softmax'
        )
    seen = attention_inputs(model, inputs, matrices=True)
    taught = {}
    if args.teacher:
        taught = attention_inputs(softmax_backbone(settings, args.teacher), inputs)
    rows = [
        make_row(seen[path], taught.get(path), place, args.heads)
        for path in choose(list(seen), args.blocks)
    ]
    title = f'{Path(args.image).name}, {Path(args.checkpoint).name}'
    with atomic_write(out) as file:
        plot_kernels(image[..., ::-1], rows, title).savefig(file, format='png', dpi=120)
    print(f'written: {out}')
    return 0


def prepare_image(
    path: str, at: Sequence[int] | None, side: int
) -> tuple[np.ndarray, tuple[float, float]]:
    """Read an image and resize it.

    Args:
        path: of the file.
        at: (x, y) of a pixel; None is the middle.
        side: of the shorter side, rounded to a multiple of `UNIT` as the longer one is.

    Returns:
        The image, BGR, and (y, x) of the pixel's middle as shares of height and width.

    Raises:
        InputError: no such file, not an image or a very long one, a pixel outside of it, or a side
            below `UNIT`.
    """
    import mmcv
    import numpy as np

    from mmca.distill.images import read_image

    if side < UNIT:
        raise InputError(f'--side must be at least {UNIT}, got {side}')
    if not Path(path).is_file():
        raise InputError(f'no such image: {path}')
    image = read_image(path)
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise InputError(f'{path} is {width} x {height} (W x H): crop it, it is too long')
    x, y = (width // 2, height // 2) if at is None else at
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f'--at {x} {y} is outside of {path}, {width} x {height} (W x H)')
    scale = side / min(height, width)
    size = tuple(max(round(n * scale / UNIT), 1) * UNIT for n in (width, height))
    resized = np.ascontiguousarray(mmcv.imresize(image, size))
    return resized, ((y + 0.5) / height, (x + 0.5) / width)


def choose(paths: Sequence[str], blocks: Sequence[int] | None) -> list[str]:
    """The blocks with these numbers, or some from first to last.

    Args:
        paths: of all attentions.
        blocks: their numbers, or None.

    Raises:
        InputError: a number out of range, or no attention at all.
    """
    if not paths:
        raise InputError('no attention of the backbone defines weights that can be plotted')
    last = len(paths) - 1
    if blocks is None:
        count = min(SHOWN, len(paths))
        blocks = [round(i * last / max(count - 1, 1)) for i in range(count)]
    for number in blocks:
        if not 0 <= number <= last:
            raise InputError(f'--blocks {number}: the backbone has blocks 0 to {last}')
    return [paths[number] for number in blocks]


def make_row(
    seen: AttentionInput,
    taught: AttentionInput | None,
    place: tuple[float, float],
    heads: Sequence[int] | None,
) -> Row:
    """Compute what is shown of one block.

    Args:
        seen: what its attention got.
        taught: the same of the softmax original, None without one.
        place: (y, x) of the patch as shares of height and width.
        heads: a kernel for each; None is the mean of all.

    Raises:
        InputError: a head that is not there.
    """
    from mmca.analysis import (
        attention_maps,
        attention_matrices,
        circulant_share,
        equivalent_kernels,
    )
    from mmca.analysis.plots import Row
    from mmca.layers import CirculantAttention

    height, width = seen.grid
    token = (int(place[0] * height), int(place[1] * width))
    index = token[0] * width + token[1]
    path = seen.path.removesuffix('.attn')
    kernels = equivalent_kernels(seen)[0]
    for head in heads or ():
        if not 0 <= head < len(kernels):
            raise InputError(f'--heads {head}: {path} has heads 0 to {len(kernels) - 1}')

    def mean(maps: Tensor) -> Tensor:
        return (maps[heads] if heads else maps).mean(0)

    name, softmax = path, None
    if not isinstance(seen.attn, CirculantAttention):
        softmax = mean(attention_maps(seen, index)[0])
        shares, _ = circulant_share(attention_matrices(seen)[0], seen.grid)
        name = f'{path}\nexplained {mean(shares):.2f}'
    elif taught is not None:
        softmax = attention_maps(taught, index)[0].mean(0)
    single = {f'kernel {head}': kernels[head] for head in heads or ()}
    return Row(
        name,
        token,
        softmax,
        mean(kernels).roll(token, (0, 1)),
        single or {f'kernel, mean of {len(kernels)}': mean(kernels)},
    )
