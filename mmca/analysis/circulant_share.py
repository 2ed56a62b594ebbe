"""The share of softmax attention that circulant matrices explain, block by block."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

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
        random: `explained` with the entries of every row in random order; about 1 / N.
        entropy: of the rows, from 0 (one patch gets all) to 1 (uniform).
    """

    path: str
    stage: int
    grid: tuple[int, int]
    explained: float
    explained_by_head: list[float]
    random: float
    entropy: float


def circulant_share(matrix: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """|P(A) - 1/N|^2 / |A - 1/N|^2, with P the projection on circulant matrices of the torus.

    It says how much of what an attention does beyond averaging depends on displacement alone. Its
    square root is the cosine between A - 1/N and P(A) - 1/N.

    Args:
        matrix: (..., N, N), rows of sum one, N = H * W.
        hw_shape: (H, W).

    Returns:
        (...), from 0 to 1; 0 for uniform attention.

    Example:
        >>> circulant_share(torch.eye(6), (2, 3)).item()
        1.0
    """
    tokens = matrix.shape[-1]
    energy = (matrix - 1 / tokens).square().sum((-2, -1))
    part = tokens * (bccb_kernel(matrix, hw_shape) - 1 / tokens).square().sum(-1)
    return torch.where(energy > NOISE, part / energy, 0.0)


def measure_blocks(model: nn.Module, images: Iterable[Tensor], seed: int = 0) -> list[BlockShare]:
    """Run a backbone on images, one by one, and measure its attentions in order.

    Args:
        model: one of `mmca.backbones`, in evaluation mode.
        images: (3, H, W) each, normalized, all of one size.
        seed: of the random baseline.

    Raises:
        InputError: the images are too large for N x N matrices.
    """
    generator = torch.Generator().manual_seed(seed)
    orders: dict[int, Tensor] = {}
    figures: dict[str, list[tuple[Tensor, float, float]]] = defaultdict(list)
    inputs: dict[str, AttentionInput] = {}
    for image in images:
        inputs = attention_inputs(model, image[None])
        for path, seen in inputs.items():
            matrix = attention_matrices(seen)[0]
            tokens = matrix.shape[-1]
            if tokens not in orders:
                orders[tokens] = torch.rand(tokens, tokens, generator=generator).argsort(-1)
            shuffled = matrix.gather(-1, orders[tokens].expand_as(matrix))
            share, random = (circulant_share(m, seen.grid) for m in (matrix, shuffled))
            figures[path].append((share, random.mean().item(), normalized_entropy(matrix)))
    blocks = []
    for path, rows in figures.items():
        shares, randoms, entropies = zip(*rows, strict=True)
        by_head = torch.stack(shares).mean(0)
        blocks.append(
            BlockShare(
                path=path.removesuffix('.attn'),
                stage=inputs[path].attn.spec.stage,
                grid=inputs[path].grid,
                explained=by_head.mean().item(),
                explained_by_head=by_head.tolist(),
                random=fmean(randoms),
                entropy=fmean(entropies),
            )
        )
    return blocks


def stage_shares(blocks: Sequence[BlockShare]) -> list[float]:
    """The mean of `explained` over the blocks of each stage, from :func:`measure_blocks`."""
    stages = range(1 + max(block.stage for block in blocks))
    return [fmean(b.explained for b in blocks if b.stage == stage) for stage in stages]


def recommend(blocks: Sequence[BlockShare], threshold: float) -> str:
    """`attn` of a backbone, one letter per stage: C where `explained` reaches the threshold."""
    return ''.join('C' if share >= threshold else 'S' for share in stage_shares(blocks))
