"""The share of softmax attention that circulant matrices explain, block by block."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor, nn

from mmca.analysis.maps import (
    attention_inputs,
    attention_matrices,
    bccb_kernel,
    normalized_entropy,
)

NOISE = 1e-10  # smaller squared norms of A - 1/N are rounding: that of A is 1 or more


@dataclass(frozen=True)
class BlockShare:
    """Figures of one block's attention, means over heads and images.

    Attributes:
        stage: index from 0; every block of a DeiT is a stage.
        grid: (H, W) of the patches.
        explained: see :func:`circulant_share`; every head and image has the same weight.
        random: the expected `explained` if the entries of every row are shuffled: 1 / N, since
            each entry of a kernel then averages N independent ones.
        entropy: see :func:`mmca.analysis.normalized_entropy`.
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

    The share of attention beyond averaging that depends on displacement alone. Its square root is
    the cosine between A - 1/N and P(A) - 1/N.

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


def measure_blocks(model: nn.Module, images: Iterable[Tensor]) -> list[BlockShare]:
    """Run a backbone on images, one by one, and measure its attention in every block.

    Args:
        model: one of `mmca.backbones`, in evaluation mode.
        images: (3, H, W) each, normalized, all of one size.

    Raises:
        InputError: the images are too large for N x N matrices.
    """
    measured: dict[str, list[BlockShare]] = defaultdict(list)
    for image in images:
        for path, seen in attention_inputs(model, image[None]).items():
            matrix = attention_matrices(seen)[0]
            by_head = circulant_share(matrix, seen.grid)
            block = BlockShare(
                path=path.removesuffix('.attn'),
                stage=seen.attn.spec.stage,
                grid=seen.grid,
                explained=by_head.mean().item(),
                explained_by_head=by_head.tolist(),
                random=1 / matrix.shape[-1],
                entropy=normalized_entropy(matrix),
            )
            measured[path].append(block)
    return [_mean(blocks) for blocks in measured.values()]


def _mean(blocks: Sequence[BlockShare]) -> BlockShare:
    """The mean over images of one block's figures."""
    heads = zip(*(block.explained_by_head for block in blocks), strict=True)
    return replace(
        blocks[0],
        explained=fmean(block.explained for block in blocks),
        explained_by_head=list(map(fmean, heads)),
        entropy=fmean(block.entropy for block in blocks),
    )


def stage_shares(blocks: Sequence[BlockShare]) -> list[float]:
    """The mean of `explained` over the blocks of each stage, from :func:`measure_blocks`."""
    stages = range(1 + max(block.stage for block in blocks))
    return [fmean(b.explained for b in blocks if b.stage == stage) for stage in stages]


def recommend(blocks: Sequence[BlockShare], threshold: float) -> str:
    """`attn` of a backbone, one letter per stage: C where `explained` reaches the threshold."""
    return ''.join('C' if share >= threshold else 'S' for share in stage_shares(blocks))
