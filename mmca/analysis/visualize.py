"""Draw the attention of one patch of an image, and circulant kernels, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mmcv
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.config import Config
from torch import Tensor

from mmca.analysis.circulant_share import circulant_share
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

UNIT = 32  # sides of the resized image are multiples of it
SHOWN = 4  # blocks by default
MARK = 'red'
PANEL = 2.2  # inches


@dataclass(frozen=True)
class Row:
    """One block of the figure.

    Attributes:
        name: label of the row.
        token: (row, column) of the query patch.
        softmax: (H, W), its softmax attention; None if unknown.
        circulant: (H, W), its circulant attention.
        kernels: title -> (H, W), the kernel with displacement 0, 0 first.
    """

    name: str
    token: tuple[int, int]
    softmax: Tensor | None
    circulant: Tensor
    kernels: dict[str, Tensor]


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
        at: (x, y) of a pixel in the query patch; default the middle.
        side: pixels that the shorter side of the image is resized to, rounded to `UNIT`.
        blocks: their numbers, from 0; default `SHOWN` of them, first to last.
        heads: one kernel for each of these heads, from 0; default the mean of all.
        teacher: file of softmax weights to compare a circulant backbone with.

    Returns:
        The figure, one row per block.

    Raises:
        InputError: unreadable files, weights of another model, or a pixel, block or head that
            does not exist.
    """
    resized, place = prepare_image(image, at, side)
    inputs = normalize(to_tensor(resized), cfg)[None]
    settings = backbone_settings(cfg)
    own = own_backbone(settings, checkpoint)
    if own is None and teacher:
        raise InputError(f'--teacher needs circulant weights, {checkpoint} has softmax weights')
    seen = attention_inputs(own or softmax_backbone(settings, checkpoint), inputs)
    taught = attention_inputs(softmax_backbone(settings, teacher), inputs) if teacher else {}
    paths = _choose(list(seen), blocks)
    return draw(resized[..., ::-1], [make_row(seen[p], taught.get(p), place, heads) for p in paths])


def prepare_image(
    path: str, at: Sequence[int] | None, side: int
) -> tuple[np.ndarray, tuple[float, float]]:
    """Read and resize an image.

    Returns:
        The image, (H, W, 3), uint8, BGR, and (y, x) of the pixel's middle as shares of H and W.

    Raises:
        InputError: unreadable image, or a pixel outside of it.
    """
    image = read_image(path)
    height, width = image.shape[:2]
    x, y = at or (width // 2, height // 2)
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f'--at {x} {y} is outside of {path}, {width} x {height} (W x H)')
    scale = side / min(height, width)
    size = tuple(max(round(n * scale / UNIT), 1) * UNIT for n in (width, height))
    return mmcv.imresize(image, size), ((y + 0.5) / height, (x + 0.5) / width)


def _choose(paths: Sequence[str], blocks: Sequence[int] | None) -> list[str]:
    last = len(paths) - 1
    if last < 0:
        raise InputError('no attention of the backbone has weights to draw')
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
    heads: Sequence[int] | None = None,
) -> Row:
    """Compute the panels of one block.

    Args:
        seen: input of the block's attention.
        taught: input of the softmax original's; None without a teacher.
        place: (y, x) in the query patch as shares of height and width.
        heads: a kernel for each; None for the mean of all.

    Raises:
        InputError: a head that does not exist.
    """
    height, width = seen.grid
    token = (int(place[0] * height), int(place[1] * width))
    index = token[0] * width + token[1]
    name, softmax = seen.path.removesuffix('.attn'), None
    kernels = equivalent_kernels(seen)[0]
    for head in heads or ():
        if not 0 <= head < len(kernels):
            raise InputError(f'--heads {head}: {name} has heads 0 to {len(kernels) - 1}')

    def mean(maps: Tensor) -> Tensor:
        return (maps[heads] if heads else maps).mean(0)

    if not seen.attn.has_kernel:
        softmax = mean(attention_maps(seen, index)[0])
        shares, _ = circulant_share(attention_matrices(seen)[0], seen.grid)
        name += f'\nexplained {mean(shares):.2f}'
    elif taught is not None:
        softmax = attention_maps(taught, index)[0].mean(0)
    single = {f'kernel {head}': kernels[head] for head in heads or ()}
    average = {f'kernel, mean of {len(kernels)}': mean(kernels)}
    return Row(name, token, softmax, mean(kernels).roll(token, (0, 1)), single or average)


def draw(image: np.ndarray, rows: Sequence[Row]) -> Figure:
    """Draw a row per block: the image, both attentions of the marked patch, centered kernels.

    Args:
        image: (H, W, 3), uint8, RGB.
        rows: the blocks, each with the same number of kernels.
    """
    columns = 3 + len(rows[0].kernels)
    height, width = image.shape[:2]
    size = (PANEL * columns * width / height + 0.5, (PANEL + 0.45) * len(rows) + 0.4)
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for panel in axes:
            panel.set(xticks=[], yticks=[])
        h, w = row.circulant.shape
        axes[0].imshow(image, extent=(-0.5, w - 0.5, h - 0.5, -0.5))
        axes[0].set_ylabel(row.name, fontsize=9)
        _mark(axes[0], row.token)
        if row.softmax is None:
            axes[1].axis('off')
            axes[1].text(0.5, 0.5, 'softmax: see\n--teacher', ha='center', fontsize=8)
        else:
            _show(axes[1], row.softmax, 'softmax', row.token)
        _show(axes[2], row.circulant, 'circulant', row.token)
        for panel, (name, kernel) in zip(axes[3:], row.kernels.items(), strict=True):
            middle = (h // 2, w // 2)
            _show(panel, kernel.roll(middle, (0, 1)), name, middle)
    return figure


def _show(axes: Axes, weights: Tensor, title: str, token: tuple[int, int]) -> None:
    # A square root, since one weight is often many times the others.
    axes.imshow(weights.numpy(), cmap='viridis', norm=PowerNorm(0.5, vmin=0))
    axes.set_title(f'{title}\nmax {weights.max():.3g}', fontsize=8)
    _mark(axes, token)


def _mark(axes: Axes, token: tuple[int, int]) -> None:
    row, column = token
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color=MARK, lw=1))
