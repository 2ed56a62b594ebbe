"""Draw the figures of docs/concepts.md, docs/time.png and docs/scaling.png.

Run `python docs/scripts/figures.py`. Everything is random and seeded, or is in docs/figures:
what measure_times.py measured, and drawings of `mmca predict`. No weights are needed.
"""

import json
from math import log
from pathlib import Path
from statistics import linear_regression

import matplotlib
import torch
from PIL import Image, ImageOps
from torch import Tensor

matplotlib.use('svg')
from matplotlib import pyplot as plt

from mmca.analysis import bccb_kernel
from mmca.layers import CirculantAttention
from mmca.ops import circulant_kernel
from mmca.ops.naive import nearest_bccb

OUT = Path(__file__).resolve().parents[1] / 'figures'
INK = '#808080'  # readable on white and on black
BACKBONES = {  # names of measure_times.py -> label, line, color, label below the line
    'DeiT-T': ('DeiT-T', 'o-', 'tab:orange', False),
    'CA-DeiT-T': ('CA-DeiT-T', 'o-', 'tab:blue', True),
    'X': ('exact windows', 'o--', 'tab:green', False),
}
PREDICTED = {'DeiT-T': 'predicted_deit_t.jpg', 'CA-DeiT-T': 'predicted_ca_deit_t.jpg'}
MODES = {'forward': 'forward', 'step': 'training step'}
LAYERS = {  # names of benchmarks/layers.py -> labels
    'global': 'softmax over all tokens',
    'spatial_reduction': 'spatial reduction (PVT)',
    'baseline': "circulant, the paper's formulas",
    'circulant': 'circulant, mmca',
    'linear': 'focused linear attention',
    'window': 'windows of 7 x 7 (Swin)',
}
plt.rcParams.update(
    {
        'axes.edgecolor': INK,
        'axes.labelcolor': INK,
        'axes.titlesize': 10,
        'font.size': 9,
        'savefig.transparent': True,
        'svg.fonttype': 'path',
        'svg.hashsalt': 'mmca',
        'text.color': INK,
        'xtick.color': INK,
        'ytick.color': INK,
    }
)


def save(figure: plt.Figure, name: str) -> None:
    """Write one figure."""
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f'{name}.svg', metadata={'Date': None})
    plt.close(figure)


def panels(number: int, width: float = 2.7) -> tuple[plt.Figure, list[plt.Axes]]:
    """A row of square panels without ticks."""
    figure, axes = plt.subplots(1, number, figsize=(width * number, width), layout='constrained')
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
    return figure, list(axes)


def example_attention(hw_shape: tuple[int, int]) -> Tensor:
    """(N, N) softmax attention: tokens prefer near ones, and some more."""
    h, w = hw_shape
    rows, columns = torch.arange(h * w) // w, torch.arange(h * w) % w
    steps = (rows[:, None] - rows, columns[:, None] - columns)
    distance = steps[0] ** 2 + steps[1] ** 2
    content = torch.randn(h * w, 4) @ torch.randn(4, h * w) / 2
    return torch.softmax(content - distance / 4, -1)


def centered(kernel: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """A kernel as a map with displacement (0, 0) in the middle."""
    return kernel.reshape(hw_shape).roll((hw_shape[0] // 2, hw_shape[1] // 2), (0, 1))


def matrix() -> None:
    """A softmax attention matrix, the nearest circulant one, and its kernel."""
    hw_shape = (6, 6)
    attention = example_attention(hw_shape)
    circulant = nearest_bccb(attention, hw_shape)
    kernel = bccb_kernel(attention, hw_shape)
    figure, axes = panels(3)
    axes[0].imshow(attention.sqrt())
    axes[0].set(title='softmax attention\n36 x 36 numbers', ylabel='query', xlabel='key')
    axes[1].imshow(circulant.sqrt())
    axes[1].set(title='nearest circulant matrix\n36 different numbers', xlabel='key')
    axes[2].imshow(centered(kernel, hw_shape).sqrt())
    axes[2].set(title='its first row, 6 x 6\n(displacement 0, 0 in the middle)')
    save(figure, 'matrix')


def torus() -> None:
    """One kernel, seen from three queries of the grid."""
    y, x = torch.meshgrid(torch.arange(9) - 4, torch.arange(12) - 6, indexing='ij')
    blob = torch.exp(-(y**2 + (x - 1) ** 2) / 5.0)  # looks a little to the right
    kernel = blob.roll((-4, -6), (0, 1))
    figure, axes = panels(3)
    for ax, query in zip(axes, ((4, 5), (4, 10), (0, 0)), strict=True):
        ax.imshow(kernel.roll(query, (0, 1)).sqrt())
        ax.plot(query[1], query[0], 'o', markerfacecolor='none', markeredgecolor='red')
        ax.set_title(f'query in row {query[0]}, column {query[1]}')
    save(figure, 'torus')


def kernels() -> None:
    """Kernels of one layer for an image: every channel has its own."""
    hw_shape = (14, 14)
    coarse = torch.randn(1, 6, 6, 6)
    x = torch.nn.functional.interpolate(coarse, hw_shape, mode='bicubic').flatten(2).mT
    q, k = x.contiguous(), (x.roll(1, -1) + 0.1 * x).contiguous()
    weights = circulant_kernel(q, k, hw_shape)[0]
    figure, axes = panels(6, 1.5)
    for channel, ax in enumerate(axes):
        ax.imshow(centered(weights[channel], hw_shape).sqrt())
        ax.set_title(f'channel {channel}')
    save(figure, 'kernels')


def padding() -> None:
    """How much the output of each token changes when the grid gets a margin."""
    layer = CirculantAttention(32).eval()
    x = torch.randn(1, 14, 20, 32)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 4, 0, 2))
    with torch.no_grad():
        alone = layer(x.flatten(1, 2), (14, 20)).unflatten(1, (14, 20))
        among = layer(padded.flatten(1, 2), (16, 24)).unflatten(1, (16, 24))[:, :14, :20]
    change = ((among - alone).norm(dim=-1) / alone.norm(dim=-1).mean())[0]
    figure, ax = plt.subplots(figsize=(4.6, 2.7), layout='constrained')
    shown = ax.imshow(change, vmin=0)
    ax.set(xticks=[], yticks=[], title='change of each token of 14 x 20 in a batch of 16 x 24')
    figure.colorbar(shown, label='relative to the mean norm')
    save(figure, 'padding')


def scale() -> None:
    """How far the kernel is from uniform, for both factors of the logits."""
    sides = (7, 14, 28, 56, 112)
    figure, ax = plt.subplots(figsize=(5, 3), layout='constrained')
    for name, style in (('sqrt', 'o-'), ('paper', 's--')):
        spread = []
        for side in sides:
            q, k = torch.randn(2, 1, side * side, 8)
            kernel = circulant_kernel(q, k, (side, side), scale=name)
            spread.append((kernel * side * side).std().item())
        ax.plot(sides, spread, style, label=f"scale='{name}'")
    ax.set(
        xscale='log',
        yscale='log',
        xticks=sides,
        xticklabels=sides,
        xlabel='side of the grid, tokens',
        ylabel='deviation of the weights\nfrom 1/N, relative',
    )
    ax.minorticks_off()
    ax.legend(frameon=False)
    save(figure, 'scale')


def measured(name: str) -> dict:
    """What measure_times.py wrote."""
    return json.loads((OUT / f'{name}.json').read_text())['seconds']


def time() -> None:
    """Seconds of a forward pass over the image's side, and predictions on a photograph."""
    by_side = measured('time')
    sides = [int(side) for side in by_side]
    places = [['time', name] for name in PREDICTED]  # the curves beside a column of photographs
    figure, axes = plt.subplot_mosaic(
        places, figsize=(12, 5.6), layout='constrained', width_ratios=(2.4, 1)
    )
    ax = axes['time']
    for name, (label, style, color, below) in BACKBONES.items():
        seconds = [times[name] for times in by_side.values()]
        ax.plot(sides, seconds, style, color=color, linewidth=2)
        text = f'  {label} {seconds[-1]:.1f} s'
        ax.text(sides[-1], seconds[-1], text, color=color, va='top' if below else 'bottom')
    ax.set(xscale='log', xticks=sides, xticklabels=sides, xlabel='image side, pixels')
    ax.set(yscale='log', yticks=(0.1, 1, 10), yticklabels=(0.1, 1, 10))
    ax.set(ylabel='seconds of a forward pass, one CPU thread')
    for name, file in PREDICTED.items():
        axes[name].imshow(Image.open(OUT / file))
        axes[name].set_title(name, color=BACKBONES[name][2])
        axes[name].axis('off')
    save_png(figure, 'time')


def scaling() -> None:
    """Seconds of single layers over the number of tokens, forward and as a training step."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.4), layout='constrained', sharey=True)
    for name, label in LAYERS.items():
        for ax, (mode, by_side) in zip(axes, measured('scaling').items(), strict=True):
            sides = [side for side, times in by_side.items() if name in times]
            tokens = [int(side) ** 2 for side in sides]
            seconds = [by_side[side][name] for side in sides]
            slope = linear_regression(*(list(map(log, n)) for n in (tokens, seconds))).slope
            label += f'{", " if ax is axes[1] else chr(10)}$N^{{{slope:.2f}}}$'
            ax.plot(tokens, seconds, 'o-', linewidth=2, label=label)
            ax.set(xscale='log', yscale='log', xlabel='tokens N', title=MODES[mode])
    axes[0].set(ylabel='seconds, one CPU thread')
    figure.legend(handles=axes[1].get_lines(), loc='outside right center', frameon=False)
    save_png(figure, 'scaling')


def save_png(figure: plt.Figure, name: str) -> None:
    """Write a figure of 1,200 pixels beside the pages."""
    for ax in figure.axes:
        ax.minorticks_off()
        ax.spines[['top', 'right']].set_visible(False)
    file = OUT.parent / f'{name}.png'
    figure.savefig(file, dpi=100)
    plt.close(figure)
    drawn = Image.open(file)
    smaller = ImageOps.posterize(drawn.convert('RGB'), 5)  # half of the bytes
    smaller.putalpha(drawn.getchannel('A'))
    smaller.save(file, optimize=True)


if __name__ == '__main__':
    torch.set_num_threads(1)
    for draw in (matrix, torus, kernels, padding, scale):
        torch.manual_seed(0)
        draw()
    plt.rcParams.update({'font.size': 13, 'axes.titlesize': 14})
    for draw in (time, scaling):
        draw()
