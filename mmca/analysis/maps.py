"""Attention on an image, as matrices, maps, kernels and entropies."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers import Attention
from mmca.ops.naive import torus_shifts

MAX_NUMBERS = 1 << 28  # of the N x N matrices of one attention: 1 GiB of float32
Grid = tuple[int, int]


@dataclass(frozen=True)
class AttentionInput:
    """The input of one attention.

    Attributes:
        x: (B, T + N, C), the N = H * W patches after T special tokens, such as a class token;
            q, k and v of an attention that does not project.
        grid: (H, W) of the patches.
    """

    path: str
    attn: Attention
    x: Tensor
    grid: Grid

    @property
    def block(self) -> str:
        """The path of its block."""
        return re.sub(r'\.attn$|\.attns(\.0)?$', '', self.path)


@contextmanager
def watch(
    model: nn.Module, kind: type[nn.Module], note: Callable[[str, nn.Module, tuple, Tensor], None]
) -> Iterator[None]:
    """Call `note` after every `Attention` or `Block` that runs in a backbone.

    It gets the module's path, the module, its arguments (x, hw_shape) and its output.
    """
    handles = [
        module.register_forward_hook(partial(note, path))
        for path, module in model.named_modules()
        if isinstance(module, kind)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded_inputs(model: nn.Module) -> Iterator[dict[str, AttentionInput]]:
    """Record the inputs of a backbone's attentions during a forward pass.

    Yields:
        Path of the attention -> its input, in the order of the forward pass. Attentions that
        define no weights are omitted.
    """
    inputs: dict[str, AttentionInput] = {}

    def note(path: str, attn: nn.Module, args: tuple, _: Tensor) -> None:
        if type(attn).attention_weights is not Attention.attention_weights:
            inputs[path] = AttentionInput(path, attn, *args)

    with watch(model, Attention, note):
        yield inputs


@torch.no_grad()
def attention_inputs(model: nn.Module, images: Tensor) -> dict[str, AttentionInput]:
    """Run a backbone on normalized images, (B, 3, H, W): path of an attention -> its input."""
    with recorded_inputs(model) as inputs:
        model(images)
    return inputs


@torch.no_grad()
def attention_maps(seen: AttentionInput, token: int) -> Tensor:
    """The attention of the patch with index `token` to every patch.

    Returns:
        (B, heads, H, W), each of sum one, without the weights of a class token or padding.
    """
    weights = seen.attn.attention_weights(seen.x, seen.grid, token)
    return weights / weights.sum((2, 3), keepdim=True)


@torch.no_grad()
def attention_matrices(seen: AttentionInput) -> Tensor:
    """:func:`attention_maps` of all patches: (B, heads, N, N), query by key, rows of sum one.

    A key of spatial reduction spreads its weight evenly over its patches; weights outside a window
    are zero.

    Raises:
        InputError: the matrices would have more than `MAX_NUMBERS` numbers.
    """
    tokens, heads = seen.x.shape[1], getattr(seen.attn, 'num_heads', 1)
    numbers = len(seen.x) * heads * tokens**2
    if numbers > MAX_NUMBERS:
        raise InputError(
            f'{seen.path}: the matrices of {heads} heads and {tokens} tokens need '
            f'{numbers / 2**28:.1f} GiB, more than the limit of 1: reduce --side'
        )
    weights = seen.attn.attention_matrix(seen.x, seen.grid)
    return weights / weights.sum(-1, keepdim=True)


@torch.no_grad()
def equivalent_kernels(seen: AttentionInput) -> Tensor:
    """The kernels of the circulant matrices nearest to an attention; circulant attention's own.

    Returns:
        (B, heads, H, W), each of sum one: at (i, j) the weight of the patch i rows below and j
        columns right of the query, on the torus.

    Raises:
        InputError: as :func:`attention_matrices`.
    """
    if seen.attn.has_kernel:
        return seen.attn.attention_kernel(seen.x, seen.grid)
    return bccb_kernel(attention_matrices(seen), seen.grid).unflatten(2, seen.grid)


def bccb_kernel(matrix: Tensor, hw_shape: Grid) -> Tensor:
    """The first row of the nearest block-circulant matrix with circulant blocks (BCCB).

    It is the mean of the matrix along each displacement on the torus (arXiv 2512.21542):
    (..., N, N) -> (..., N), N = H * W.

    Example:
        >>> bccb_kernel(torch.eye(6), (2, 3)).tolist()
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    shifts = torus_shifts(hw_shape).to(matrix.device)
    return matrix.gather(-1, shifts.expand_as(matrix)).mean(-2)


def normalized_entropy(weights: Tensor) -> float:
    """Mean entropy of rows of attention weights, (..., M): 0 if one token gets all, 1 if uniform.

    Example:
        >>> normalized_entropy(torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
        0.5
    """
    tokens = weights.shape[-1]
    if tokens == 1:
        return 1.0
    return (-torch.xlogy(weights, weights).sum(-1).mean() / math.log(tokens)).item()


def relative_errors(found: Tensor, target: Tensor) -> Tensor:
    """|found - target| / |target| of every image: (B, ...) twice -> (B,)."""
    found, target = found.float().flatten(1), target.float().flatten(1)
    return (found - target).norm(dim=1) / target.norm(dim=1)
