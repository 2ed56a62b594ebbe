"""Softmax attention inside windows with a bias a pair of positions, lean on the CPU."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Weights that the backward pass holds at a time: 8 MiB of float32, which stay in the cache.
CHUNK = 1 << 21


def window_attention(
    qkv: Tensor, bias: Tensor, masks: Sequence[tuple[int, Tensor | None]], dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias + mask) v in every window (arXiv 2103.14030, eq. 4).

    Windows with the same mask lie next to each other, so that masks are as many as there are
    kinds of windows and not as many as windows. The products are torch's
    scaled_dot_product_attention. Its fused form for CPUs has no gradient for a bias, and torch
    falls back on one that keeps all weights; here the backward pass is written out over pieces
    of `CHUNK` weights, and only q, k and v are kept. Gradients are of first order only there.

    Args:
        qkv: (n, M, 3, h, d), n windows of M tokens.
        bias: (h, M, M), query by key.
        masks: for each kind of window, in order, how many there are (n in all) and what is
            added to their logits, (M, M) of 0 and -inf, or None.
        dropout: rate at which weights are dropped.

    Returns:
        (n, M, h * d) in the dtype of qkv.
    """
    fused = qkv.dtype in (torch.float32, torch.float64) and qkv.device.type == 'cpu'
    if fused and dropout == 0 and not torch.compiler.is_compiling():
        return _WindowAttention.apply(qkv, bias, masks)
    return _attend(qkv, bias, masks, dropout)


def _kinds(qkv: Tensor, bias: Tensor, masks: Sequence[tuple[int, Tensor | None]]) -> list:
    """For every kind of window that occurs: its range and its bias (1, h, M, M)."""
    ends = accumulate((count for count, _ in masks), initial=0)
    return [
        (slice(start, end), (bias if mask is None else bias + mask).to(qkv.dtype)[None])
        for (start, end), (_, mask) in zip(pairwise(ends), masks, strict=True)
        if end > start
    ]


def _attend(
    qkv: Tensor, bias: Tensor, masks: Sequence[tuple[int, Tensor | None]], dropout: float
) -> Tensor:
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    outs = [
        F.scaled_dot_product_attention(
            *(x[part] for x in (q, k, v)),
            attn_mask=kind_bias.expand(part.stop - part.start, -1, -1, -1),
            dropout_p=dropout,
        )
        for part, kind_bias in _kinds(qkv, bias, masks)
    ]
    return torch.cat(outs).transpose(1, 2).flatten(2)


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, qkv: Tensor, bias: Tensor, masks: Sequence[tuple[int, Tensor | None]]
    ) -> Tensor:
        ctx.save_for_backward(qkv, bias)
        ctx.masks = masks
        return _attend(qkv, bias, masks, dropout=0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, bias = ctx.saved_tensors
        heads, size = bias.shape[:2]
        scale = qkv.shape[-1] ** -0.5
        grad = grad.unflatten(2, (heads, -1))
        grad_qkv, grad_bias = torch.empty_like(qkv), torch.zeros_like(bias)
        step = max(CHUNK // (heads * size * size), 1)
        for part, kind_bias in _kinds(qkv, bias, ctx.masks):
            for start in range(part.start, part.stop, step):
                piece = slice(start, min(start + step, part.stop))
                # (n, M, 3, h, d) -> three of (n, h, M, d)
                q, k, v = qkv[piece].permute(2, 0, 3, 1, 4).contiguous()
                on_out = grad[piece].transpose(1, 2)
                weights = torch.matmul(q, k.mT).mul_(scale).add_(kind_bias).softmax(-1)
                on_v = torch.matmul(weights.mT, on_out)
                on_weights = torch.matmul(on_out, v.mT)
                on_logits = on_weights.sub_((on_weights * weights).sum(-1, keepdim=True))
                on_logits.mul_(weights)
                grad_bias += on_logits.sum(0)
                on_logits.mul_(scale)
                pieces = torch.matmul(on_logits, k), torch.matmul(on_logits.mT, q), on_v
                for i, g in enumerate(pieces):
                    grad_qkv[piece, :, i] = g.transpose(1, 2)
        return grad_qkv, grad_bias, None
