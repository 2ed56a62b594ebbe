"""The share of softmax attention that circulant matrices explain, block by block."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmca.analysis.maps import (
    AttentionInput,
    attention_inputs,
    attention_matrices,
    bccb_kernel,
    normalized_entropy,
)

NOISE = 1e-10  # of a matrix's squared norm, which is 1 or more: less than this is rounding


@dataclass(frozen=True)
class BlockShare:
    """Figures of one block's attention A, means over heads and images.

    Attributes:
        path: of the block in its backbone.
        stage: index of its stage, from 0; every block of a DeiT is a stage.
        grid: (H, W) of its patches.
        explained: see :func:`circulant_share`; every head and image has the same weight.
        explained_by_head: the same for each head.
        explained_energy: the same as a ratio of sums, in which sharp heads weigh more.
        random: `explained` with the entries of every row in random order; about 1 / N.
        entropy: of the rows, from 0 (one patch gets all) to 1 (uniform).
        energy: |A - 1/N|^2.
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
    """|P(A) - 1/N|^2 / |A - 1/N|^2, with P the projection on circulant matrices of the torus.

    The uniform matrix is circulant and taken out first: the share says how much of what an
    attention does beyond averaging is a function of displacement alone. Its square root is the
    cosine between A - 1/N and P(A) - 1/N.

    Args:
        matrix: (..., N, N), rows of sum one, N = H * W.
        hw_shape: (H, W).

    Returns:
        The share, from 0 to 1 (0 for uniform attention), and |A - 1/N|^2, each (...).

    Example:
        >>> circulant_share(torch.eye(6), (2, 3))[0].item()
        1.0
    """
    tokens = matrix.shape[-1]
    energy = (matrix - 1 / tokens).square().sum((-2, -1))
    part = tokens * (bccb_kernel(matrix, hw_shape) - 1 / tokens).square().sum(-1)
    return torch.where(energy > NOISE, part / energy, 0.0), energy


def measure_blocks(model: nn.Module, images: Iterable[Tensor], seed: int = 0) -> list[BlockShare]:
    """Run a backbone on images, one by one, and measure each of its attentions.

    Args:
        model: one of `mmca.backbones`, in evaluation mode.
        images: (3, H, W) each, normalized, all of one size.
        seed: of the random baseline.

    Returns:
        One per attention, in the order of the forward pass.

    Raises:
        InputError: the images are too large for N x N matrices.
    """
    generator = torch.Generator().manual_seed(seed)
    orders: dict[int, Tensor] = {}
    figures: dict[str, list[tuple[Tensor, Tensor, Tensor, float]]] = defaultdict(list)
    inputs: dict[str, AttentionInput] = {}
    for image in images:
        inputs = attention_inputs(model, image[None])
        for path, seen in inputs.items():
            matrix = attention_matrices(seen)[0]
            tokens = matrix.shape[-1]
            if tokens not in orders:
                orders[tokens] = torch.rand(tokens, tokens, generator=generator).argsort(-1)
            shuffled = matrix.gather(-1, orders[tokens].expand_as(matrix))
            share, energy = circulant_share(matrix, seen.grid)
            random, _ = circulant_share(shuffled, seen.grid)
            figures[path].append((share, energy, random, normalized_entropy(matrix)))
    return [_summarize(inputs[path], rows) for path, rows in figures.items()]


def _summarize(
    seen: AttentionInput, rows: Sequence[tuple[Tensor, Tensor, Tensor, float]]
) -> BlockShare:
    *tensors, entropies = zip(*rows, strict=True)
    share, energy, random = map(torch.stack, tensors)
    return BlockShare(
        path=seen.path.removesuffix('.attn'),
        stage=seen.attn.spec.stage,
        grid=seen.grid,
        explained=share.mean().item(),
        explained_by_head=share.mean(0).tolist(),
        explained_energy=((share * energy).sum() / energy.sum().clamp_min(NOISE)).item(),
        random=random.mean().item(),
        entropy=sum(entropies) / len(entropies),
        energy=energy.mean().item(),
    )


def stage_shares(blocks: Sequence[BlockShare]) -> list[float]:
    """The mean of `explained` over the blocks of each stage, from :func:`measure_blocks`."""
    stages = range(1 + max(block.stage for block in blocks))
    of_stage = [[b.explained for b in blocks if b.stage == stage] for stage in stages]
    return [sum(values) / len(values) for values in of_stage]


def recommend(blocks: Sequence[BlockShare], threshold: float) -> str:
    """Recommend circulant attention for the stages whose share reaches a threshold.

    Args:
        blocks: from :func:`measure_blocks`.
        threshold: the smallest share.

    Returns:
        `attn` of a backbone: one letter per stage (per block in DeiT), C or S.
    """
    return ''.join('C' if share >= threshold else 'S' for share in stage_shares(blocks))
