"""The fast form of circulant attention: one node for autograd, its backward pass written out.

Maps are (B, C, H, W), their half spectra (B, C, H, W'). The logits are built reversed,
r_m = a_{-m}, with the spectrum q_hat * conj(k_hat): softmax ignores the order, and correlating with
the kernel becomes a plain product with the spectrum of the reversed kernel. No transform is
normalized: q comes multiplied by scale / N and v by 1 / N, which by the chain rule also makes up
for the transforms of the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.ops.fft import (
    inverse,
    mul_conj,
    parseval_product,
    project,
    spread_heads,
    sum_heads,
)
from mmca.ops.opaque import as_node, opaque
from mmca.ops.precision import first_order_backward


class FusedCirculantAttention(torch.autograd.Function):
    """x (B, C, H, W) and the weight (D, C) -> values (B, V, H, W), logsumexp of the logits (B, h).

    The D projected channels belong to q and k, heads * head_dim each, and to the values, V.
    Without a weight, x holds them. Without `with_lse`, the second result is empty.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor | None,
        heads: int,
        head_dim: int,
        with_lse: bool,
    ) -> tuple[Tensor, Tensor]:
        out, lse, x_hat, kernel = as_node(_attend)(x, weight, heads, head_dim, with_lse)
        ctx.save_for_backward(x_hat, weight, kernel)
        ctx.head_dim, ctx.with_lse = head_dim, with_lse
        return out, lse

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad_out: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        need_x, need_weight, *_ = ctx.needs_input_grad
        grads = grad_out, grad_lse if ctx.with_lse else None
        grad_x, grad_weight = as_node(_attend_backward)(
            *grads, *ctx.saved_tensors, ctx.head_dim, need_x, need_weight
        )
        return grad_x if need_x else None, grad_weight if need_weight else None, None, None, None


@opaque
def _attend(
    x: Tensor, weight: Tensor | None, heads: int, head_dim: int, with_lse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two results, and for the backward pass the spectrum of x and the reversed kernels."""
    x_hat = torch.fft.rfft2(x)
    q_hat, k_hat, v_hat = _split(project(weight, x_hat), heads * head_dim, 1)
    logits_hat = sum_heads(mul_conj(q_hat, k_hat), head_dim)
    logits_hat[..., 0, 0] = 0  # the mean, which softmax ignores: it costs precision
    logits = inverse(logits_hat, x.shape[3])
    kernel = logits.flatten(2).softmax(2).view_as(logits)
    out_hat = spread_heads(torch.fft.rfft2(kernel), v_hat.shape[1] // heads).mul_(v_hat)
    lse = logits.flatten(2).logsumexp(2) if with_lse else logits.new_empty(0)
    return inverse(out_hat, x.shape[3]), lse, x_hat, kernel


@opaque
def _attend_backward(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    x_hat: Tensor,
    weight: Tensor | None,
    kernel: Tensor,
    head_dim: int,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and the weight; empty where not needed."""
    heads, width = kernel.shape[1], kernel.shape[3]
    channels, grad_out_hat = heads * head_dim, torch.fft.rfft2(grad_out)
    # The gradients of q and k are written to each other's memory: swap them beforehand.
    if weight is None:
        spectra = _swap_q_k(x_hat, channels, 1)
    else:
        spectra = project(_swap_q_k(weight, channels, 0), x_hat)
    k_hat, q_hat, v_hat = _split(spectra, channels, 1)
    products = v_hat.conj_physical_().mul_(grad_out_hat)
    value_dim = v_hat.shape[1] // heads
    grad_logits = inverse(sum_heads(products, value_dim), width).mul_(kernel)
    mean = grad_logits.sum((2, 3), keepdim=True)
    grad_logits.sub_(kernel * (mean if grad_lse is None else mean - grad_lse[..., None, None]))
    kernel_hat = spread_heads(torch.fft.rfft2(kernel), value_dim)
    v_hat.copy_(kernel_hat.conj_physical_().mul_(grad_out_hat))
    grad_logits_hat = torch.fft.rfft2(grad_logits)
    grad_logits_hat[..., 0, 0] = 0
    grad_logits_hat = spread_heads(grad_logits_hat, head_dim)
    k_hat.mul_(grad_logits_hat)
    q_hat.mul_(grad_logits_hat.conj_physical_())
    # `spectra` now holds the spectra of the gradients of q, k and v, divided by N.
    grad_x = grad_weight = grad_out.new_empty(0)
    if need_x:
        grad_x = inverse(spectra if weight is None else project(weight.mT, spectra), width)
    if need_weight:
        grad_weight = parseval_product(spectra, x_hat, width)
    return grad_x, grad_weight


def _split(x: Tensor, channels: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The parts q and k, of `channels` each, and v, which has the rest."""
    return x.split([channels, channels, x.shape[dim] - 2 * channels], dim)


def _swap_q_k(x: Tensor, channels: int, dim: int) -> Tensor:
    """The parts q, k, v along a dimension in the order k, q, v."""
    q, k, v = _split(x, channels, dim)
    return torch.cat([k, q, v], dim)
