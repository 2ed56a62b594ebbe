"""Focused linear attention, O(N) in time and memory.

Source: Han, Pan, Han, Song, Huang, "FLatten Transformer: Vision Transformer using Focused Linear
Attention", ICCV 2023, arXiv 2308.00442, equations 3 to 6. The dense form is in
`mmca.ops.naive`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.errors import InputError
from mmca.ops.layout import merge_heads, split_heads
from mmca.ops.precision import first_order_backward, wide_dtype, without_autocast

EPS = 1e-6


def check_linear(q: Tensor, k: Tensor, v: Tensor, scale: Tensor, num_heads: int) -> None:
    """Raise InputError for arguments that :func:`focused_linear_attention` does not accept."""
    if q.dim() != 3 or k.shape != v.shape or k.shape[::2] != q.shape[::2]:
        raise InputError(
            'q must be (B, N, C), k and v (B, M, C), got '
            f'{tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}'
        )
    if scale.numel() != q.shape[2]:
        raise InputError(
            f'scale must have one value per channel, got {tuple(scale.shape)} for C={q.shape[2]}'
        )
    if num_heads < 1 or q.shape[2] % num_heads:
        raise InputError(f'num_heads must divide C, got num_heads={num_heads}, C={q.shape[2]}')


@torch.no_grad()
def focus(x: Tensor, scale: Tensor, focusing_factor: float) -> Tensor:
    """phi(u) = |u| u^p / |u^p| with u = (relu(x) + 1e-6) / scale, norms over all C channels.

    The power sharpens a token's direction and keeps its length (arXiv 2308.00442, eq. 4 and 5).
    Computed in one buffer, so without a gradient, which `_focus_backward` computes.

    Args:
        x: (B, N, C).
        scale: (C,) or (1, 1, C), positive.
        focusing_factor: p.

    Returns:
        (B, N, C), not negative.
    """
    u = x.clamp(min=0).add_(EPS).div_(scale)
    length = u.norm(dim=-1, keepdim=True)
    # A common factor cancels in the direction; the largest entry at 1 keeps all powers finite.
    power = u.div_(u.amax(-1, keepdim=True)).pow_(focusing_factor)
    return power.mul_(length / power.norm(dim=-1, keepdim=True))


def focused_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: Tensor,
    num_heads: int,
    focusing_factor: float = 3.0,
) -> Tensor:
    """O = phi(q) (phi(k)^T v / M) / (phi(q) . mean_M phi(k) + 1e-6), per head.

    The feature map phi is :func:`focus`. It acts on all channels before the split into heads
    (arXiv 2308.00442, eq. 3 with eq. 4).

    Args:
        q: (B, N, C), any floating dtype. Anything narrower than float32 is computed in float32
            with autocast off: cubes and sums over 200 x 336 tokens leave the range of float16.
        k, v: (B, M, C).
        scale: (C,) or (1, 1, C), positive; divides q and k in the feature map.
        num_heads: heads, must divide C.
        focusing_factor: p, positive.

    Returns:
        (B, N, C) in the dtype of v.

    Raises:
        InputError: shapes do not fit, or num_heads does not divide C.

    Example:
        >>> q, k, v = torch.randn(3, 2, 15, 8)
        >>> focused_linear_attention(q, k, v, torch.ones(8), num_heads=2).shape
        torch.Size([2, 15, 8])
    """
    check_linear(q, k, v, scale, num_heads)
    dtype = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    with without_autocast(q.device):
        tensors = (x.to(dtype) for x in (q, k, v, scale))
        out = _FocusedLinearAttention.apply(*tensors, num_heads, focusing_factor)
    return out.to(v.dtype)


class _FocusedLinearAttention(torch.autograd.Function):
    """q (B, N, C), k and v (B, M, C) and the scale -> (B, N, C).

    Written out so that a backward pass under autocast stays in full precision, and so that only
    the inputs, their features and the output are kept for it.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: Tensor,
        num_heads: int,
        focusing_factor: float,
    ) -> Tensor:
        features = [focus(x, scale, focusing_factor) for x in (q, k)]
        phi_q, phi_k = (split_heads(x, num_heads) for x in features)
        root = k.shape[1] ** -0.5
        context = (phi_k.mT * root) @ (split_heads(v, num_heads) * root)
        mean = phi_k.mean(2, keepdim=True)
        norm = phi_q @ mean.mT + EPS
        out = merge_heads(phi_q @ context / norm)
        ctx.save_for_backward(q, k, v, scale, *features, out, context, mean, norm)
        ctx.num_heads, ctx.focusing_factor = num_heads, focusing_factor
        return out

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, scale, *features, out, context, mean, norm = ctx.saved_tensors
        heads, power = ctx.num_heads, ctx.focusing_factor
        grad, v, out, phi_q, phi_k = (split_heads(x, heads) for x in (grad, v, out, *features))
        grad_numerator = grad / norm
        grad_norm = (grad_numerator * out).sum(-1, keepdim=True).neg_()
        grad_phi_q = (grad_numerator @ context.mT).addcmul_(grad_norm, mean)
        grad_context = (phi_q.mT @ grad_numerator).div_(k.shape[1])
        grad_mean = (grad_norm.mT @ phi_q).div_(k.shape[1])
        grad_phi_k = (v @ grad_context.mT).add_(grad_mean)
        grad_v = merge_heads(phi_k @ grad_context)
        grad_q, scale_by_q = _focus_backward(merge_heads(grad_phi_q), features[0], q, scale, power)
        grad_k, scale_by_k = _focus_backward(merge_heads(grad_phi_k), features[1], k, scale, power)
        return grad_q, grad_k, grad_v, scale_by_q + scale_by_k, None, None


def _focus_backward(
    grad: Tensor, phi: Tensor, x: Tensor, scale: Tensor, focusing_factor: float
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the scale of :func:`focus`; overwrites grad, (B, N, C)."""
    buffer = grad * phi
    length = phi.norm(dim=-1, keepdim=True)  # equal to the length of u
    along = buffer.sum(-1, keepdim=True).div_(length**2)
    u = buffer.copy_(x).clamp_(min=0).add_(EPS).div_(scale)
    # d phi / d u: the direction's part, orthogonal to phi, and the length's.
    grad_u = grad.addcmul_(along, phi, value=-1).mul_(phi).div_(u)
    grad_u.addcmul_(along / focusing_factor, u).mul_(focusing_factor / scale)
    grad_scale = -u.mul_(grad_u).flatten(0, 1).sum(0).view_as(scale)
    return grad_u.masked_fill_(x <= 0, 0.0), grad_scale


def focused_weights(
    q: Tensor, k: Tensor, scale: Tensor, num_heads: int, focusing_factor: float = 3.0
) -> Tensor:
    """The N x M weights that :func:`focused_linear_attention` applies without forming them.

    Args:
        q, k, scale, num_heads, focusing_factor: as there; keep N small.

    Returns:
        (B, h, N, M), at least float32, not negative; rows sum to almost one.
    """
    dtype = wide_dtype(q.dtype)
    with without_autocast(q.device):
        scale = scale.to(dtype)
        features = (focus(x.to(dtype), scale, focusing_factor) for x in (q, k))
        phi_q, phi_k = (split_heads(x, num_heads) for x in features)
        weights = phi_q @ phi_k.mT / k.shape[1]
        return weights / (weights.sum(-1, keepdim=True) + EPS)
