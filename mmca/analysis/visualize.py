"""Draw the attention of one patch of an image, and circulant kernels, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import mmcv
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.config import Config
from torch import Tensor

from mmca.analysis.block_shares import explained_shares
from mmca.analysis.images import normalize, to_tensor
from mmca.analysis.maps import (
    AttentionInput,
    attention_inputs,
    attention_maps,
    attention_matrices,
    equivalent_kernels,
)
from mmca.analysis.trained_backbone import backbone_settings, own_backbone, softmax_backbone
from mmca.errors import InputError
from mmca.io import read_image

UNIT = 32  # sides of the resized image are multiples
SHOWN = 4  # blocks by default
MARK = 'red'
PANEL = 1.6  # inches
INK = '#808080'  # of the labels, readable on white and on black
Panel = tuple[str, Optional[Tensor], tuple[int, int]]  # title, weights (H, W), marked patch


def visualize(
    cfg: Config,
    checkpoint: str,
    image: str,
    at: Sequence[int] | None = None,
    side: int = 224,
    blocks: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    teacher: str | None = None,
) -> Figure:
    """Draw softmax attention, circulant attention and kernels for one patch of an image.

    Args:
        cfg: config with a backbone of mmca.
        checkpoint: file of its weights, or of its softmax original's.
        image: the image file.
        at: (x, y) of a pixel in the query patch; by default the center.
        side: shorter side of the resized image in pixels, rounded to `UNIT`.
        blocks: indices from 0; by default `SHOWN` of them, first to last.
        heads: draw a kernel for each of these heads, from 0, instead of the mean of all.
        teacher: file of softmax weights to compare a circulant backbone with.

    Raises:
        InputError: unreadable file, weights of another model, or no such pixel, block or head.
    """
    pixels = read_image(image)
    height, width = pixels.shape[:2]
    x, y = at or (width // 2, height // 2)
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f'--at {x} {y} is outside {image}, {width} x {height} (W x H)')
    place = ((y + 0.5) / height, (x + 0.5) / width)
    scale = side / min(height, width)
    size = tuple(max(round(n * scale / UNIT), 1) * UNIT for n in (width, height))
    pixels = mmcv.imresize(pixels, size)
    inputs = normalize(to_tensor(pixels), cfg)[None]
    settings = backbone_settings(cfg)
    own = own_backbone(settings, checkpoint)
    if own is None and teacher:
        raise InputError(f'--teacher needs circulant weights, but {checkpoint} has softmax weights')
    seen = attention_inputs(own or softmax_backbone(settings, checkpoint), inputs)
    taught = attention_inputs(softmax_backbone(settings, teacher), inputs) if teacher else {}
    if not seen:
        raise InputError('the backbone has no attention with weights to draw')
    paths, last = list(seen), len(seen) - 1
    if blocks is None:
        blocks = sorted({round(i * last / (SHOWN - 1)) for i in range(SHOWN)})
    for number in blocks:
        if not 0 <= number <= last:
            raise InputError(f'--blocks {number}: the backbone has blocks 0 to {last}')
    chosen = [paths[number] for number in blocks]
    return _draw(pixels[..., ::-1], [_panels(seen[p], taught.get(p), place, heads) for p in chosen])


def _panels(
    seen: AttentionInput,
    taught: AttentionInput | None,
    place: tuple[float, float],
    heads: Sequence[int] | None,
) -> tuple[str, list[Panel]]:
    """A block's label and panels: softmax (None if unknown), circulant, kernels."""
    height, width = seen.grid
    token, middle = (int(place[0] * height), int(place[1] * width)), (height // 2, width // 2)
    index = token[0] * width + token[1]
    name, softmax = seen.block, None
    kernels = equivalent_kernels(seen)[0]
    for head in heads or ():
        if not 0 <= head < len(kernels):
            raise InputError(f'--heads {head}: {name} has heads 0 to {len(kernels) - 1}')

    def mean(maps: Tensor) -> Tensor:
        return (maps[heads] if heads else maps).mean(0)

    if not seen.attn.has_kernel:
        softmax = mean(attention_maps(seen, index)[0])
        shares = explained_shares(attention_matrices(seen)[0], seen.grid)
        name += f'\ncirculant {mean(shares[:, :, 0].amax(1)):.2f}'
    elif taught is not None:
        softmax = attention_maps(taught, index)[0].mean(0)
    single = {f'kernel {head}': kernels[head] for head in heads or ()}
    single = single or {f'kernel, mean of {len(kernels)}': kernels.mean(0)}
    return name, [
        ('softmax', softmax, token),
        ('circulant', mean(kernels).roll(token, (0, 1)), token),
        *((title, kernel.roll(middle, (0, 1)), middle) for title, kernel in single.items()),
    ]


def _draw(image: np.ndarray, rows: Sequence[tuple[str, list[Panel]]]) -> Figure:
    """One row per block: the image, (H, W, 3) RGB, with the patch marked, and the panels."""
    columns = 1 + len(rows[0][1])
    height, width = image.shape[:2]
    wide = PANEL * columns * width / height + 0.5
    font = {'fontsize': max(wide, 8), 'color': INK}
    size = wide, (PANEL + 0.05 * font['fontsize']) * len(rows)
    figure = Figure(figsize=size, layout='constrained', facecolor='none')
    grid = figure.subplots(len(rows), columns, squeeze=False, subplot_kw=dict(xticks=[], yticks=[]))
    for (first, *others), (name, panels) in zip(grid, rows):
        _, circulant, token = panels[1]
        h, w = circulant.shape
        first.imshow(image, extent=(-0.5, w - 0.5, h - 0.5, -0.5))
        first.set_ylabel(name, **font)
        _mark(first, token)
        for axes, (title, weights, marked) in zip(others, panels):
            if weights is None:
                axes.axis('off')
                axes.text(0.5, 0.5, 'softmax: see\n--teacher', ha='center', **font)
                continue
            # A square root, since one weight is often many times the others.
            axes.imshow(weights.numpy(), cmap='viridis', norm=PowerNorm(0.5, vmin=0))
            axes.set_title(f'{title}\nmax {weights.max():.2g}', **font)
            _mark(axes, marked)
    return figure


def _mark(axes: Axes, token: tuple[int, int]) -> None:
    row, column = token
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color=MARK, lw=1))
