"""The dense form of every op, under the op's own name: short, obviously right.

All write out their N x N weights, compute in the dtype that comes in, are differentiated by
autograd, and take the arguments of the op in `mmca.ops`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmca.ops.circulant import Scale, check_qkv, logit_scale
from mmca.ops.focused_linear import EPS, check_linear


def torus_shifts(hw_shape: tuple[int, int]) -> Tensor:
    """The index of token n + m on the torus, for every n and m.

    Args:
        hw_shape: (H, W), N = H * W.

    Returns:
        (N, N) int64: entry [n, m] is the flat index of (y_n + y_m mod H, x_n + x_m mod W).
    """
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
    q, k, v = (_split_heads(x, head_dim) for x in (q, k, v))
    logits = torch.einsum('bhnd,bhnmd->bhm', q, k[:, :, shifts])
    logits = logits * logit_scale(scale, q.shape[2], head_dim)
    logits = (logits - logits.mean(-1, keepdim=True))[:, :, None]
    if key_logits is not None:
        logits = logits + key_logits[:, :, shifts]
    lse = logits.logsumexp(-1).expand(-1, -1, q.shape[2])
    out = _merge_heads(
        torch.einsum('bhnm,bhnmd->bhnd', (logits - lse[..., None]).exp(), v[:, :, shifts])
    )
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
    """`mmca.ops.circulant_kernel`: the output at token 0 for one-hot values at every token."""
    num_tokens = q.shape[1]
    heads = q.shape[2] // head_dim
    weights = []
    for m in range(num_tokens):
        v = torch.zeros_like(q)
        v[:, m] = 1
        out = circulant_attention(q, k, v, hw_shape, head_dim, scale)
        weights.append(out[:, 0].unflatten(1, (heads, head_dim))[..., 0])
    return torch.stack(weights, dim=2).unflatten(2, hw_shape)


def window_attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """`mmca.ops.window.window_attention`, one window at a time."""
    outs = []
    for window in qkv:
        q, k, v = window.unflatten(1, (3, len(bias), -1)).permute(1, 2, 0, 3)
        weights = (q @ k.mT / q.shape[2] ** 0.5 + bias).softmax(-1)
        outs.append((weights @ v).transpose(0, 1).flatten(1))
    return torch.stack(outs)


def projected_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """Softmax attention whose N x N logits are projected on the BCCB matrices.

    The paper's claim, without its formula: Q K^T is replaced by the nearest matrix (Frobenius
    norm) in the span of the N shift matrices of the torus, then each row goes through softmax
    and is multiplied with V. With `scale='paper'` the logits are the projection of
    Q K^T / sqrt(d); any other scale is N * scale times the projection of Q K^T.

    Args, Returns: as :func:`circulant_attention`.
    """
    q, k, v = (_split_heads(x, head_dim) for x in (q, k, v))
    num_tokens = q.shape[2]
    logits = nearest_bccb(q @ k.mT, hw_shape) * num_tokens
    return _merge_heads((logits * logit_scale(scale, num_tokens, head_dim)).softmax(-1) @ v)


def nearest_bccb(matrix: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """Orthogonal projection on the span of the torus' shift matrices.

    The shift by (i, j) is the Kronecker product of two cyclic permutation matrices. The N shifts
    are orthogonal to each other, each of squared norm N, so the projection is the sum of the
    projections on each. Takes N^3 numbers.

    Args:
        matrix: (..., N, N), N = H * W.
        hw_shape: (H, W).

    Returns:
        (..., N, N), the block-circulant matrix with circulant blocks that is nearest.
    """
    rows, cols = (torch.eye(n, dtype=matrix.dtype, device=matrix.device) for n in hw_shape)
    shifts = torch.stack(
        [
            torch.kron(rows.roll(i, 1).contiguous(), cols.roll(j, 1).contiguous())
            for i in range(hw_shape[0])
            for j in range(hw_shape[1])
        ]
    )
    coefficients = torch.einsum('...nm,snm->...s', matrix, shifts) / shifts.sum((1, 2))
    return torch.einsum('...s,snm->...nm', coefficients, shifts)


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

    head_dim = q.shape[2] // num_heads
    q, k, v = (_split_heads(x, head_dim) for x in (phi(q), phi(k), v))
    weights = q @ k.mT / k.shape[2]
    return _merge_heads(weights @ v / (weights.sum(-1, keepdim=True) + EPS))


def _split_heads(x: Tensor, head_dim: int) -> Tensor:
    """(B, N, C) -> (B, C / d, N, d)."""
    return x.unflatten(2, (-1, head_dim)).transpose(1, 2)


def _merge_heads(x: Tensor) -> Tensor:
    """(B, C / d, N, d) -> (B, N, C)."""
    return x.transpose(1, 2).flatten(2)
