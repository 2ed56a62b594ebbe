"""How much of softmax attention a circulant matrix can express, block by block."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmca.analysis.entropy import normalized_entropy
from mmca.analysis.maps import attention_inputs, attention_matrices, bccb_kernel

NOISE = 1e-10  # of a matrix's squared norm, which is 1 or more: less than this is rounding


@dataclass(frozen=True)
class BlockShare:
    """Figures of one attention, means over heads and images.

    Attributes:
        path: of the attention in its backbone.
        stage: index of its stage, from 0; every block of a DeiT is a stage.
        grid: (H, W) of its patches.
        explained: share of the energy beyond uniform that the nearest circulant matrix has, see
            :func:`circulant_share`; every head and image counts the same.
        explained_by_head: the same for each head.
        explained_energy: the same as a ratio of sums, in which sharp heads count more.
        random: `explained` after the entries of every row were put in random order; about 1 / N.
        entropy: of the rows, from 0 (one patch has it all) to 1 (uniform).
        energy: |A - 1/N|^2 of the matrices.
    """

    path: str
    stage: int
    grid: tuple[int, int]
    explained: float
    explained_by_head: list[float]
    explained_energy: float
    random: float
    entropy: float
    energy: float


def circulant_share(matrix: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """|P(A) - 1/N|^2 / |A - 1/N|^2, P the projection on the circulant matrices of the torus.

    The uniform matrix is circulant, so it is taken out first: the share tells how much of what
    an attention does beyond averaging is a function of displacement alone. Its square root is the
    cosine between A - 1/N and P(A) - 1/N.

    Args:
        matrix: (..., N, N), rows of sum one, N = H * W.
        hw_shape: (H, W).

    Returns:
        The share, from 0 to 1, and |A - 1/N|^2, each (...). Uniform attention has a share of 0.

    Example:
        >>> circulant_share(torch.eye(6), (2, 3))[0].item()
        1.0
    """
    tokens = matrix.shape[-1]
    energy = (matrix - 1 / tokens).square().sum((-2, -1))
    part = tokens * (bccb_kernel(matrix, hw_shape) - 1 / tokens).square().sum(-1)
    return torch.where(energy > NOISE, part / energy, 0.0), energy


def shuffle_rows(matrix: Tensor, order: Tensor) -> Tensor:
    """Put the entries of every row in another order.

    Args:
        matrix: (..., N, N).
        order: (N, N), a permutation of 0 to N - 1 in every row.

    Returns:
        (..., N, N).
    """
    return matrix.gather(-1, order.expand_as(matrix))


def measure_blocks(model: nn.Module, images: Iterable[Tensor], seed: int = 0) -> list[BlockShare]:
    """Run a backbone on images, one after another, and measure each of its attentions.

    Args:
        model: one of `mmca.backbones`, in evaluation mode.
        images: (3, H, W) each, normalized, all of one size.
        seed: of the random baseline.

    Returns:
        One an attention, in the order of the forward pass.

    Raises:
        InputError: the images are too large for N x N matrices.
    """
    generator = torch.Generator().manual_seed(seed)
    orders: dict[int, Tensor] = {}
    figures: dict[str, list[tuple[Tensor, Tensor, Tensor, float]]] = defaultdict(list)
    places = {}
    for image in images:
        for path, seen in attention_inputs(model, image[None], matrices=True).items():
            matrix = attention_matrices(seen)[0]
            tokens = matrix.shape[-1]
            if tokens not in orders:
                orders[tokens] = torch.rand(tokens, tokens, generator=generator).argsort(-1)
            share, energy = circulant_share(matrix, seen.grid)
            random, _ = circulant_share(shuffle_rows(matrix, orders[tokens]), seen.grid)
            figures[path].append((share, energy, random, normalized_entropy(matrix)))
            places[path] = seen
    blocks = []
    for path, rows in figures.items():
        *tensors, entropies = zip(*rows, strict=True)
        share, energy, random = map(torch.stack, tensors)
        blocks.append(
            BlockShare(
                path,
                places[path].attn.spec.stage,
                places[path].grid,
                share.mean().item(),
                share.mean(0).tolist(),
                ((share * energy).sum() / energy.sum().clamp_min(NOISE)).item(),
                random.mean().item(),
                sum(entropies) / len(entropies),
                energy.mean().item(),
            )
        )
    return blocks


def stage_shares(blocks: Sequence[BlockShare]) -> list[float]:
    """The mean of `explained` over the blocks of each stage.

    Args:
        blocks: from :func:`measure_blocks`.
    """
    stages = range(1 + max(block.stage for block in blocks))
    of_stage = [[b.explained for b in blocks if b.stage == stage] for stage in stages]
    return [sum(values) / len(values) for values in of_stage]


def recommend(blocks: Sequence[BlockShare], threshold: float) -> str:
    """Which stages to make circulant: those whose share reaches a threshold.

    Args:
        blocks: from :func:`measure_blocks`.
        threshold: the least share.

    Returns:
        One letter a stage, a block in DeiT: C or S, as `attn` of a backbone takes them.
    """
    return ''.join('C' if share >= threshold else 'S' for share in stage_shares(blocks))
