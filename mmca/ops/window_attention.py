"""Softmax attention in windows, with a bias for each pair of positions."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.ops.backend import choose_backend
from mmca.ops.precision import first_order_backward

# Numbers that the largest tensor of a chunk may have: 8 MiB of float32. Measured once on a CPU,
# forward, 1392 windows of 49 tokens, 96 channels, 3 heads: 1 to 8 MiB 70, 58, 57, 57 ms, all at
# once 84; 360 windows, 192 channels, 6 heads: 45, 41, 38, 37 against 55 ms.
CHUNK = 1 << 21

Masks = Sequence[tuple[int, Tensor | None]]


def window_attention(
    x: Tensor,
    w_qkv: Tensor,
    b_qkv: Tensor,
    w_proj: Tensor,
    b_proj: Tensor,
    bias: Tensor,
    masks: Masks,
    dropout: float = 0.0,
) -> Tensor:
    """Multi-head softmax(q k^T / sqrt(d) + bias + mask) v in windows (arXiv 2103.14030, eq. 4).

    Windows with the same mask are next to each other, so that there is one mask for each kind of
    window instead of one for each window. The products are torch's scaled_dot_product_attention.
    The 'cpu' backend computes the windows in chunks of `CHUNK` numbers and keeps its input alone;
    the backward pass computes each chunk's q, k, v and weights again. Autocast, dropout and the
    other backends take the eager form. Gradients of the chunked form are of first order only.

    Args:
        x: (n, M, C), n windows of M tokens.
        w_qkv, b_qkv: (3 C, C) and (3 C,), as in `nn.Linear`; rows by q / k / v, head, channel.
        w_proj, b_proj: (C, C) and (C,).
        bias: (h, M, M), query by key, h heads.
        masks: for each kind of window, in order, the number of windows (n in all) and what is
            added to their logits, (M, M) of 0 and -inf, or None.
        dropout: rate at which weights are dropped.

    Returns:
        (n, M, C) in the dtype of x, under autocast in that of its products.

    Example:
        >>> x, w_qkv, w_proj = torch.randn(6, 4, 8), torch.randn(24, 8), torch.randn(8, 8)
        >>> bias, masks = torch.zeros(2, 4, 4), [(6, None)]
        >>> window_attention(x, w_qkv, torch.zeros(24), w_proj, torch.zeros(8), bias, masks).shape
        torch.Size([6, 4, 8])
    """
    chunked = choose_backend(x) == 'cpu' and x.dtype in (torch.float32, torch.float64)
    if chunked and not (dropout or torch.is_autocast_enabled('cpu')):
        return _WindowAttention.apply(x, w_qkv, b_qkv, w_proj, b_proj, bias, masks)
    out = attend_windows(F.linear(x, w_qkv, b_qkv), bias, masks, dropout)
    return F.linear(out, w_proj, b_proj)


def attend_windows(qkv: Tensor, bias: Tensor, masks: Masks, dropout: float = 0.0) -> Tensor:
    """The attention of :func:`window_attention` without its projections, in the eager form.

    Args:
        qkv: (n, M, 3 C), columns by q / k / v, head, channel.
        bias, masks, dropout: as there.

    Returns:
        (n, M, C).
    """
    outs = [
        _attend(*_heads(qkv[part], len(bias)), kind_bias.to(qkv.dtype), dropout)
        for part, kind_bias in _kinds(bias, masks)
    ]
    return torch.cat(outs)


def _kinds(bias: Tensor, masks: Masks) -> list[tuple[slice, Tensor]]:
    """For every kind of window that occurs: its range and its bias (h, M, M)."""
    kinds, start = [], 0
    for count, mask in masks:
        if count:
            kind_bias = bias if mask is None else bias + mask.to(bias.dtype)
            kinds.append((slice(start, start + count), kind_bias))
        start += count
    return kinds


def _heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n, M, 3 C) -> three of (n, h, M, d)."""
    return qkv.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    """Three of (n, h, M, d) and (h, M, M) -> (n, M, C)."""
    if torch.onnx.is_in_onnx_export():  # which does not take apart torch's fused attention
        out = (q * q.shape[-1] ** -0.5 @ k.mT + bias).softmax(-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], dropout_p=dropout)
    return out.transpose(1, 2).flatten(2)


def _step(x: Tensor, bias: Tensor) -> int:
    """Windows in a chunk."""
    largest = max(bias.numel(), 3 * x.shape[1] * x.shape[2])
    return min(max(CHUNK // largest, 1), len(x))


def _chunks(x: Tensor, bias: Tensor, masks: Masks) -> Iterator[tuple[slice, Tensor]]:
    """For every chunk, windows of one kind: its range and its bias."""
    for part, kind_bias in _kinds(bias, masks):
        for start in range(part.start, part.stop, _step(x, bias)):
            yield slice(start, min(start + _step(x, bias), part.stop)), kind_bias


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        w_qkv: Tensor,
        b_qkv: Tensor,
        w_proj: Tensor,
        b_proj: Tensor,
        bias: Tensor,
        masks: Masks,
    ) -> Tensor:
        ctx.save_for_backward(x, w_qkv, b_qkv, w_proj, bias)
        ctx.masks = masks
        result = x.new_empty(x.shape)
        buffer = x.new_empty(_step(x, bias), x.shape[1], len(w_qkv))
        for part, kind_bias in _chunks(x, bias, masks):
            windows = x[part]
            qkv = buffer[: len(windows)]
            _affine(windows, w_qkv, b_qkv, out=qkv)
            out = _attend(*_heads(qkv, len(bias)), kind_bias)
            _affine(out, w_proj, b_proj, out=result[part])
        return result

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_qkv, b_qkv, w_proj, bias = ctx.saved_tensors
        scale = (x.shape[2] // len(bias)) ** -0.5
        grad_x = x.new_empty(x.shape)
        grad_w_qkv, grad_b_qkv, grad_w_proj, grad_bias = (
            torch.zeros_like(t) for t in (w_qkv, b_qkv, w_proj, bias)
        )
        buffer = x.new_empty(_step(x, bias), x.shape[1], len(w_qkv))
        for part, kind_bias in _chunks(x, bias, ctx.masks):
            windows, grad_result = x[part], grad[part]
            qkv = buffer[: len(windows)]
            _affine(windows, w_qkv, b_qkv, out=qkv)
            # Copies, because the gradients overwrite the buffer.
            q, k, v = (
                t.clone(memory_format=torch.contiguous_format) for t in _heads(qkv, len(bias))
            )
            weights = torch.matmul(q, k.mT).mul_(scale).add_(kind_bias).softmax(-1)
            out = torch.matmul(weights, v).transpose(1, 2).flatten(2).flatten(0, 1)
            grad_w_proj.addmm_(grad_result.flatten(0, 1).mT, out)
            grad_out = grad_result.matmul(w_proj).unflatten(2, (len(bias), -1)).transpose(1, 2)
            grad_logits = torch.matmul(grad_out, v.mT)
            grad_logits.sub_((grad_logits * weights).sum(-1, keepdim=True)).mul_(weights)
            grad_bias += grad_logits.sum(0)
            grad_q, grad_k, grad_v = _heads(qkv, len(bias))
            grad_v.copy_(torch.matmul(weights.mT, grad_out))
            grad_logits.mul_(scale)
            grad_q.copy_(torch.matmul(grad_logits, k))
            grad_k.copy_(torch.matmul(grad_logits.mT, q))
            grad_qkv = qkv.flatten(0, 1)
            grad_w_qkv.addmm_(grad_qkv.mT, windows.flatten(0, 1))
            grad_b_qkv += grad_qkv.sum(0)
            torch.mm(grad_qkv, w_qkv, out=grad_x[part].flatten(0, 1))
        grad_b_proj = grad.sum((0, 1))
        return grad_x, grad_w_qkv, grad_b_qkv, grad_w_proj, grad_b_proj, grad_bias, None


def _affine(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
    """(n, M, C) -> (n, M, D), written to `out`."""
    torch.mm(x.flatten(0, 1), weight.mT, out=out.flatten(0, 1)).add_(bias)
