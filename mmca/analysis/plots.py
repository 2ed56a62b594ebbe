"""Plots of attention: shares of all blocks, and maps and kernels of some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from mmca.analysis import BlockShare

COLORS = {'C': 'tab:green', 'S': 'tab:gray'}
LABELS = {'C': 'recommended circulant', 'S': 'recommended softmax'}
MARK = 'red'
PANEL = 2.2  # inches


def plot_shares(blocks: Sequence[BlockShare], attn: str, threshold: float, title: str) -> Figure:
    """The explained share of every block with the baselines, and the entropy.

    Args:
        blocks: measured.
        attn: the recommendation, a letter a stage.
        threshold: that it was made by.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6, 1.5 + 0.55 * len(blocks)), 4.5), layout='constrained')
    axes = figure.add_subplot()
    places = range(len(blocks))
    for letter, color in COLORS.items():
        chosen = [i for i in places if attn[blocks[i].stage] == letter]
        if chosen:
            heights = [blocks[i].explained for i in chosen]
            axes.bar(chosen, heights, color=color, label=LABELS[letter])
    for i in places:
        heads = blocks[i].explained_by_head
        axes.plot(
            [i] * len(heads), heads, '.', color='black', ms=4, label='' if i else 'single heads'
        )
    axes.plot(places, [b.random for b in blocks], 'x', color='tab:red', label='random rows')
    axes.plot(places, [b.entropy for b in blocks], '--', color='tab:blue', label='entropy / log N')
    axes.axhline(threshold, color='tab:green', linewidth=0.8, linestyle=':')
    axes.set_xticks(
        places, [b.path.removesuffix('.attn') for b in blocks], rotation=45, ha='right', fontsize=8
    )
    axes.set_ylim(0, 1.05)
    axes.set_ylabel('explained share; entropy')
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
    return figure


@dataclass
class Row:
    """What the figure shows of one block.

    Attributes:
        name: of the block, and what is to be said of it.
        token: (row, column) of the patch that attends.
        softmax: (H, W), what it attends to with softmax; None if not known.
        circulant: (H, W), the same with the circulant matrix.
        kernels: title -> (H, W), the first row of the matrix at displacement 0, 0.
    """

    name: str
    token: tuple[int, int]
    softmax: Tensor | None
    circulant: Tensor
    kernels: dict[str, Tensor] = field(default_factory=dict)


def plot_kernels(image: np.ndarray, rows: Sequence[Row], title: str) -> Figure:
    """A row a block: the image, both attentions of the marked patch, the kernels centered.

    Args:
        image: (height, width, 3), RGB.
        rows: the blocks, each with the same number of kernels.
        title: of the figure.
    """
    from matplotlib.figure import Figure

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
            centered = kernel.roll((h // 2, w // 2), (0, 1))
            _show(panel, centered, name, (h // 2, w // 2))
    figure.suptitle(title, fontsize=9)
    return figure


def _show(axes: Axes, weights: Tensor, title: str, token: tuple[int, int]) -> None:
    from matplotlib.colors import PowerNorm

    # A square root, since one weight is often many times the others.
    axes.imshow(weights.numpy(), cmap='viridis', norm=PowerNorm(0.5, vmin=0))
    axes.set_title(f'{title}\nmax {weights.max():.3g}', fontsize=8)
    _mark(axes, token)


def _mark(axes: Axes, token: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    row, column = token
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color=MARK, lw=1))
