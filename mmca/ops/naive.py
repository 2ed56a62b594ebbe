"""The dense form of every op in `mmca.ops`, with the same name and arguments.

All write out their N x N weights, compute in the dtype of the inputs and leave gradients to
autograd.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmca.ops.circulant import Scale, check_qkv, logit_scale
from mmca.ops.focused_linear import EPS, check_linear
from mmca.ops.layout import merge_heads, split_heads


def torus_shifts(hw_shape: tuple[int, int]) -> Tensor:
    """(N, N) int64, N = H * W: entry [n, m] is the index of token n + m on the torus."""
    height, width = hw_shape
    y, x = torch.arange(height * width) // width, torch.arange(height * width) % width
    return (y[:, None] + y) % height * width + (x[:, None] + x) % width


def bccb(first_row: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """The block-circulant matrix with circulant blocks that has a given first row.

    Args:
        first_row: (..., N), N = H * W.
        hw_shape: (H, W).

    Returns:
        (..., N, N): entry [n, n + m] is first_row[m].
    """
    shifts = torus_shifts(hw_shape).to(first_row.device)
    matrix = first_row.new_zeros(*first_row.shape, first_row.shape[-1])
    rows = first_row.unsqueeze(-2).expand_as(matrix)
    return matrix.scatter(-1, shifts.expand_as(matrix), rows)


def circulant_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
    key_logits: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`mmca.ops.circulant_attention` by its defining sums, O(N^2) in time and memory.

    a_m = scale * sum_n sum_d q_{n,d} k_{n+m,d};  o_n = sum_m softmax_m(a_m + b_{n+m}) v_{n+m}.

    Args, Returns, Raises: as there.
    """
    check_qkv(q, k, v, hw_shape, head_dim, key_logits)
    shifts = torus_shifts(hw_shape).to(q.device)
    logits = _logits(q, k, hw_shape, head_dim, scale)[:, :, None]
    if key_logits is not None:
        logits = logits + key_logits[:, :, shifts]
    lse = logits.logsumexp(-1).expand(-1, -1, q.shape[1])
    v = split_heads(v, v.shape[2] // head_dim)[:, :, shifts]
    out = torch.einsum('bhnm,bhnmd->bhnd', (logits - lse[..., None]).exp(), v)
    out = merge_heads(out)
    return (out, lse) if return_lse else out


def circulant_self_attention(
    x: Tensor,
    weight: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """`mmca.ops.circulant_self_attention`: projections, then the sums above."""
    return circulant_attention(*F.linear(x, weight).chunk(3, dim=2), hw_shape, head_dim, scale)


def circulant_kernel(
    q: Tensor, k: Tensor, hw_shape: tuple[int, int], head_dim: int = 1, scale: Scale = 'sqrt'
) -> Tensor:
    """`mmca.ops.circulant_kernel` by the sums above."""
    return _logits(q, k, hw_shape, head_dim, scale).softmax(-1).unflatten(2, hw_shape)


def _logits(q: Tensor, k: Tensor, hw_shape: tuple[int, int], head_dim: int, scale: Scale) -> Tensor:
    """The mean-free logits a, (B, C / d, N)."""
    q, k = (split_heads(x, x.shape[2] // head_dim) for x in (q, k))
    shifts = torus_shifts(hw_shape).to(q.device)
    logits = torch.einsum('bhnd,bhnmd->bhm', q, k[:, :, shifts])
    logits = logits * logit_scale(scale, q.shape[2], head_dim)
    return logits - logits.mean(-1, keepdim=True)


def windowed_circulant_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int,
    window_size: int = 7,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`mmca.ops.windowed_circulant_attention` by its logits, O(N^2) in time and memory.

    Args, Returns, Raises: as there.
    """
    check_qkv(q, k, v, hw_shape, head_dim)
    q, k, v = (split_heads(x, x.shape[2] // head_dim) for x in (q, k, v))
    logits = q @ k.mT / head_dim**0.5
    logits = windowed_logits(logits, hw_shape, window_size)
    out, lse = merge_heads(logits.softmax(3) @ v), logits.logsumexp(3)
    return (out, lse) if return_lse else out


def windowed_logits(logits: Tensor, hw_shape: tuple[int, int], window_size: int) -> Tensor:
    """The projection of logits (..., N, N) outside windows; they are made mean-free by rows."""
    logits = logits - logits.mean(-1, keepdim=True)
    shifts = torus_shifts(hw_shape).to(logits.device).expand_as(logits)
    projected = bccb(logits.gather(-1, shifts).mean(-2), hw_shape)
    projected = projected + logits.mean(-2, keepdim=True)
    places = torch.arange(hw_shape[0] * hw_shape[1], device=logits.device)
    y, x = places // hw_shape[1] // window_size, places % hw_shape[1] // window_size
    near = (y[:, None] == y) & (x[:, None] == x)
    return torch.where(near, logits, projected)


def nearest_bccb(matrix: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """The orthogonal projection on the BCCB matrices, the span of the torus' N shift matrices.

    The shifts are orthogonal to each other, each of squared norm N, so the projection is the sum of
    the projections on each. Takes N^3 numbers.

    Args:
        matrix: (..., N, N), N = H * W.
        hw_shape: (H, W).

    Returns:
        (..., N, N).
    """
    shifts = F.one_hot(torus_shifts(hw_shape)).to(matrix)  # [n, s, m]: whether m is n + s
    coefficients = torch.einsum('...nm,nsm->...s', matrix, shifts) / len(shifts)
    return torch.einsum('...s,nsm->...nm', coefficients, shifts)


def focused_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: Tensor,
    num_heads: int,
    focusing_factor: float = 3.0,
) -> Tensor:
    """`mmca.ops.focused_linear_attention` with its N x M weights written out.

    A_nm = phi(q_n) . phi(k_m) / M within a head; O_n = sum_m A_nm v_m / (sum_m A_nm + 1e-6).

    Args, Returns, Raises: as there.
    """
    check_linear(q, k, v, scale, num_heads)

    def phi(x: Tensor) -> Tensor:
        u = (x.relu() + EPS) / scale
        sharp = u**focusing_factor
        return u.norm(dim=-1, keepdim=True) * sharp / sharp.norm(dim=-1, keepdim=True)

    q, k, v = (split_heads(x, num_heads) for x in (phi(q), phi(k), v))
    weights = q @ k.mT / k.shape[2]
    return merge_heads(weights @ v / (weights.sum(-1, keepdim=True) + EPS))
