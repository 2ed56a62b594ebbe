"""What attentions of a network attend to on an image, as matrices, maps and kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers import Attention, CirculantAttention
from mmca.ops.naive import torus_shifts

MAX_NUMBERS = 1 << 28  # of the N x N matrices of one attention: 1 GiB of float32


@dataclass(frozen=True)
class AttentionInput:
    """What went into an attention.

    Attributes:
        path: of the attention in its model.
        attn: the attention.
        x: (B, T, C), with T = N, or N + 1 where a class token precedes the patches.
        hw_shape: the grid that the attention was given for its T tokens.
        grid: (H, W) of the N patches.
    """

    path: str
    attn: Attention
    x: Tensor
    hw_shape: tuple[int, int]
    grid: tuple[int, int]

    @property
    def skipped(self) -> int:
        """Tokens in front of the patches."""
        return self.x.shape[1] - self.grid[0] * self.grid[1]


def attention_inputs(
    model: nn.Module, images: Tensor, matrices: bool = False
) -> dict[str, AttentionInput]:
    """Run a backbone once and keep what its attentions get.

    Args:
        model: one of `mmca.backbones`, or any module with attentions of `mmca.layers`; it runs in
            its present mode, without gradients.
        images: (B, 3, H, W), normalized.
        matrices: refuse at once what :func:`attention_matrices` would refuse.

    Returns:
        Path of the attention -> its input, in the order of the forward pass. Attentions that
        define no weights are left out.

    Raises:
        InputError: with `matrices`, the matrices would have more than `MAX_NUMBERS` numbers.
    """
    with recorded_inputs(model, matrices) as inputs, torch.no_grad():
        model(images)
    return inputs


@contextmanager
def recorded_inputs(
    model: nn.Module, matrices: bool = False
) -> Iterator[dict[str, AttentionInput]]:
    """Keep what the attentions of a backbone get in a forward pass that somebody else makes.

    Args:
        model: as :func:`attention_inputs`.
        matrices: as :func:`attention_inputs`.

    Yields:
        An empty dictionary that the forward pass fills; a second pass overwrites the first's.

    Example::

        with recorded_inputs(detector.backbone) as seen:
            detector.test_step(batch)
    """
    inputs: dict[str, AttentionInput] = {}
    patches: list[tuple[int, int]] = []

    def keep(path: str, attn: Attention, args: tuple) -> None:
        x, hw_shape = args
        with_token = bool(patches) and x.shape[1] == patches[0][0] * patches[0][1] + 1
        grid = patches[0] if with_token else hw_shape
        inputs[path] = AttentionInput(path, attn, x, hw_shape, grid)
        if matrices and not isinstance(attn, CirculantAttention):
            _check_size(inputs[path])

    handles = [
        module.register_forward_pre_hook(lambda attn, args, path=path: keep(path, attn, args))
        for path, module in model.named_modules()
        if isinstance(module, Attention)
        and type(module).attention_weights is not Attention.attention_weights
    ]
    if getattr(model, 'cls_token', None) is not None:
        handles.append(
            model.patch_embed.register_forward_hook(lambda _, args, out: patches.append(out[1]))
        )
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_maps(seen: AttentionInput, token: int) -> Tensor:
    """How much one patch attends to every patch.

    Args:
        seen: from :func:`attention_inputs`.
        token: index of the patch, from 0 to N - 1.

    Returns:
        (B, heads, H, W); each map sums to one, the weight of a class token or of padding being
        shared out among the patches in proportion.
    """
    token += seen.skipped
    weights = seen.attn.attention_weights(seen.x, seen.hw_shape, token).flatten(2)
    weights = weights[..., seen.skipped :].unflatten(2, seen.grid)
    return weights / weights.sum((2, 3), keepdim=True)


@torch.no_grad()
def attention_matrices(seen: AttentionInput) -> Tensor:
    """:func:`attention_maps` of all patches.

    Spatial reduction and windows are taken as the N x N operators that they are: the weight of a
    reduced key is spread evenly over the patches that it was made from, which is what the average
    of their values would get, and weights outside of a window are zero.

    Args:
        seen: from :func:`attention_inputs`.

    Returns:
        (B, heads, N, N), query by key; the rows sum to one.

    Raises:
        InputError: the matrices would have more than `MAX_NUMBERS` numbers.
    """
    _check_size(seen)
    weights = seen.attn.attention_matrix(seen.x, seen.hw_shape)
    weights = weights[..., seen.skipped :, seen.skipped :]
    return weights / weights.sum(-1, keepdim=True)


def _check_size(seen: AttentionInput) -> None:
    tokens, heads = seen.x.shape[1], getattr(seen.attn, 'num_heads', 1)
    numbers = len(seen.x) * heads * tokens**2
    if numbers > MAX_NUMBERS:
        raise InputError(
            f'{seen.path}: {heads} heads on {tokens} tokens make matrices of '
            f'{numbers * 4 / 2**30:.1f} GiB, at most {MAX_NUMBERS * 4 / 2**30:.0f} are allowed: '
            'choose a smaller --side'
        )


def equivalent_kernels(seen: AttentionInput) -> Tensor:
    """The kernels of the circulant matrices that are nearest to an attention's.

    Args:
        seen: from :func:`attention_inputs`.

    Returns:
        (B, heads, H, W), each of sum one: at (i, j) the weight of the patch i rows below and j
        columns right of the query, on the torus. For circulant attention, which has a head a
        channel by default, its own kernels.

    Raises:
        InputError: as :func:`attention_matrices`.
    """
    if isinstance(seen.attn, CirculantAttention):
        return attention_maps(seen, 0)
    return bccb_kernel(attention_matrices(seen), seen.grid).unflatten(2, seen.grid)


def bccb_kernel(matrix: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """The first row of the nearest block-circulant matrix with circulant blocks.

    That is the mean of the matrix along each displacement on the torus, the orthogonal projection
    of arXiv 2512.21542; `mmca.ops.naive.nearest_bccb` has the whole matrix.

    Args:
        matrix: (..., N, N), N = H * W.
        hw_shape: (H, W).

    Returns:
        (..., N).

    Example:
        >>> bccb_kernel(torch.eye(6), (2, 3)).tolist()
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    shifts = torus_shifts(hw_shape).to(matrix.device)
    return matrix.gather(-1, shifts.expand_as(matrix)).mean(-2)
