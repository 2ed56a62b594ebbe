"""The share of softmax attention that circulant matrices and columns explain, block by block."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from mmca.analysis.maps import (
    attention_inputs,
    attention_matrices,
    bccb_kernel,
    normalized_entropy,
)
from mmca.ops.naive import bccb

GAINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
FLOOR = 1e-6  # times the mean weight 1/N: what a weight of zero, outside a window, counts as
NOISE = 1e-10  # smaller squared norms of A - 1/N are rounding errors: |A|^2 is 1 or more


@dataclass(frozen=True)
class BlockShare:
    """Figures of one block's attention, means over heads and images.

    Attributes:
        stage: index from 0; every block of a DeiT is a stage.
        grid: (H, W) of the patches.
        circulant: share explained by circulant matrices, see :func:`explained_shares`. Each head
            has the gain that is best for the mean over images.
        columns: the same for matrices with equal rows.
        both: the same for both together.
        both_by_head: `both` of every head.
        gains: the best pair (g_a, g_b) of every head for `both`.
        entropy: see :func:`mmca.analysis.normalized_entropy`.
    """

    path: str
    stage: int
    grid: tuple[int, int]
    circulant: float
    columns: float
    both: float
    both_by_head: list[float]
    gains: list[tuple[float, float]]
    entropy: float


def explained_shares(matrix: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """1 - |A - M|^2 / |A - 1/N|^2, with M the nearest attention of O(N log N) to A.

    The logits log A are projected on circulant matrices a_{m-n} plus matrices with equal rows b_m
    (columns: all queries attend to the same keys), and M is softmax(g_a a_{m-n} + g_b b_m). A gain
    of zero leaves a part out; circulant attention with keys starts with both gains at one.

    Args:
        matrix: A, (heads, N, N), rows of sum one, N = H * W.
        hw_shape: (H, W).

    Returns:
        (heads, G, G) float64 for g_a and g_b from `GAINS`, at most 1; negative where M is
        farther from A than uniform attention; 0 for uniform A.

    Example:
        >>> shares = explained_shares(torch.tensor([[[0.9, 0.1], [0.1, 0.9]]]), (1, 2))
        >>> round(shares[0, GAINS.index(1), 0].item(), 3)
        1.0
    """
    return torch.stack([_head_shares(head.double(), hw_shape) for head in matrix])


def _head_shares(matrix: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """(N, N) -> (G, G). All g_b share the circulant factor of a g_a: three products each."""
    tokens, gains = len(matrix), matrix.new_tensor(GAINS)
    energy = (matrix - 1 / tokens).square().sum()
    logits = matrix.clamp(min=FLOOR / tokens).log()
    kernel, keys = bccb_kernel(logits, hw_shape), logits.mean(0)
    key_factors = ((keys - keys.mean())[:, None] * gains).exp()  # (N, G)
    displacements = bccb(torch.arange(tokens, device=matrix.device), hw_shape)
    rows = []
    for gain in gains:
        factor = ((kernel - kernel.mean()) * gain).exp()[displacements]
        sums = factor @ key_factors
        product = ((matrix * factor) @ key_factors / sums).sum(0)  # <A, M>
        square = (factor.square() @ key_factors.square() / sums.square()).sum(0)  # |M|^2
        rows.append(1 - (matrix.square().sum() - 2 * product + square) / energy)
    return torch.stack(rows) if energy > NOISE else matrix.new_zeros(len(gains), len(gains))


def measure_blocks(model: nn.Module, images: Iterable[Tensor]) -> list[BlockShare]:
    """Run a backbone on images, one by one, and measure its attention in every block.

    Args:
        model: one of `mmca.backbones`, in evaluation mode.
        images: (3, H, W) each, normalized, all of one size.

    Raises:
        InputError: the images are too large for N x N matrices.
    """
    places, shares, entropies = {}, defaultdict(list), defaultdict(list)
    for image in images:
        for path, seen in attention_inputs(model, image[None]).items():
            matrix = attention_matrices(seen)[0]
            places[path] = seen.block, seen.attn.spec.stage, seen.grid
            shares[path].append(explained_shares(matrix, seen.grid))
            entropies[path].append(normalized_entropy(matrix))
    return [
        BlockShare(*place, *_best(torch.stack(shares[path]).mean(0)), fmean(entropies[path]))
        for path, place in places.items()
    ]


def _best(shares: Tensor) -> tuple[float, float, float, list[float], list[tuple[float, float]]]:
    """`circulant` to `gains` of a :class:`BlockShare`, from shares (heads, G, G)."""
    shares = shares.clamp(min=0)  # gains of zero explain zero, give or take rounding
    both, places = shares.flatten(1).max(1)
    pairs = [(GAINS[i // len(GAINS)], GAINS[i % len(GAINS)]) for i in places.tolist()]
    circulant, columns = (part.amax(1).mean().item() for part in (shares[:, :, 0], shares[:, 0]))
    return circulant, columns, both.mean().item(), both.tolist(), pairs
