"""The fast form of circulant attention: one autograd node with a hand-written backward pass.

Maps are (B, C, H, W), their half spectra (B, C, H, W'), W' = W // 2 + 1. The logits are built
reversed, r_m = a_{-m}, with the spectrum q_hat * conj(k_hat): softmax ignores the order, and
correlating with the kernel becomes a plain product with the spectrum of the reversed kernel. No
transform is normalized: q comes multiplied by scale / N and v by 1 / N, which by the chain rule
also makes up for the transforms of the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.ops.compat import is_compiling
from mmca.ops.opaque import as_node, opaque
from mmca.ops.precision import first_order_backward

CHUNK = 1 << 18  # numbers inverted at a time


class FusedCirculantAttention(torch.autograd.Function):
    """x (B, C, H, W) and the weight (D, C) -> values (B, V, H, W).

    The D projected channels belong to q and k, heads * head_dim each, and to the values, V.
    Without a weight, x holds them. With `return_logits`, the reversed logits follow, (B, h, H, W).
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor | None,
        heads: int,
        head_dim: int,
        return_logits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        out, logits, x_hat, kernel = as_node(_attend)(x, weight, heads, head_dim)
        ctx.save_for_backward(x_hat, weight, kernel)
        ctx.head_dim = head_dim
        return (out, logits) if return_logits else out

    @staticmethod
    @first_order_backward
    def backward(
        ctx: FunctionCtx, grad_out: Tensor, grad_logits: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        x_hat, weight, kernel = ctx.saved_tensors
        grads = grad_out, grad_logits
        grad_x, grad_weight = as_node(_attend_backward)(*grads, x_hat, weight, kernel, ctx.head_dim)
        return grad_x, None if weight is None else grad_weight, None, None, None


@opaque
def _attend(
    x: Tensor, weight: Tensor | None, heads: int, head_dim: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values and reversed logits; for the backward pass the spectrum of x, reversed kernels."""
    x_hat = torch.fft.rfft2(x)
    q_hat, k_hat, v_hat = _split(_project(weight, x_hat), heads * head_dim, 1)
    logits_hat = _sum_heads(_mul_conj(q_hat, k_hat), head_dim)
    logits_hat[..., 0, 0] = 0  # the mean, which softmax ignores: it costs precision
    logits = _inverse(logits_hat, x.shape[3])
    lse = logits.flatten(2).logsumexp(2)
    kernel = (logits - lse[..., None, None]).exp_()
    out_hat = _spread_heads(torch.fft.rfft2(kernel), v_hat.shape[1] // heads).mul_(v_hat)
    return _inverse(out_hat, x.shape[3]), logits, x_hat, kernel


@opaque
def _attend_backward(
    grad_out: Tensor,
    given: Tensor | None,
    x_hat: Tensor,
    weight: Tensor | None,
    kernel: Tensor,
    head_dim: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and the weight, for those of the values and of the reversed logits.

    The second is empty without a weight.
    """
    heads, width = kernel.shape[1], kernel.shape[3]
    channels, grad_out_hat = heads * head_dim, torch.fft.rfft2(grad_out)
    # The gradients of q and k overwrite k and q, so these change places beforehand.
    swapped = _swap_q_k(x_hat if weight is None else weight, channels, int(weight is None))
    spectra = swapped if weight is None else _project(swapped, x_hat)
    k_hat, q_hat, v_hat = _split(spectra, channels, 1)
    value_dim = v_hat.shape[1] // heads
    products = _sum_heads(v_hat.conj_physical_().mul_(grad_out_hat), value_dim)
    grad_logits = _inverse(products, width).mul_(kernel)
    grad_logits.sub_(kernel * grad_logits.sum((2, 3), keepdim=True))
    grad_logits_hat = torch.fft.rfft2(grad_logits if given is None else grad_logits.add_(given))
    grad_logits_hat[..., 0, 0] = 0
    grad_logits_hat = _spread_heads(grad_logits_hat, head_dim)
    kernel_hat = _spread_heads(torch.fft.rfft2(kernel), value_dim)
    v_hat[:] = _mul_conj(grad_out_hat, kernel_hat)
    k_hat.mul_(grad_logits_hat)
    q_hat.mul_(grad_logits_hat.conj_physical_())
    # `spectra` now holds the spectra of the gradients of q, k and v, divided by N.
    if weight is None:
        return _inverse(spectra, width), grad_out.new_empty(0)
    grad_x = _inverse(_project(weight.mT, spectra), width)
    return grad_x, _parseval_product(spectra, x_hat, width)


def _split(x: Tensor, channels: int, dim: int) -> list[Tensor]:
    """The parts q and k, of `channels` each, and the values."""
    return x.tensor_split([channels, 2 * channels], dim)


def _swap_q_k(x: Tensor, channels: int, dim: int) -> Tensor:
    q, k, v = _split(x, channels, dim)
    return torch.cat([k, q, v], dim)


def _project(weight: Tensor | None, x_hat: Tensor) -> Tensor:
    """A real (D, C) matrix on the channels of spectra, (B, C, H, W') -> (B, D, H, W')."""
    if weight is None:
        return x_hat
    batch, _, height, width = x_hat.shape
    planes = torch.view_as_real(x_hat).flatten(2)
    out = torch.bmm(weight.expand(batch, -1, -1), planes)  # matmul would copy the weight
    return torch.view_as_complex(out.view(batch, -1, height, width, 2))


def _inverse(x_hat: Tensor, width: int) -> Tensor:
    """H * W times the inverse transform, (B, C, H, W') -> (B, C, H, W).

    On a CPU in chunks of channels: torch transposes the spectrum twice on the way, which costs
    little as long as it stays in the cache.
    """
    sizes = x_hat.shape[2], width
    symbolic = type(x_hat) is not Tensor or is_compiling()
    if symbolic or x_hat.device.type != 'cpu':
        return torch.fft.irfft2(x_hat, s=sizes, norm='forward')
    channels = max(CHUNK // (x_hat.shape[0] * x_hat.shape[2] * width), 1)
    parts = x_hat.split(channels, 1)
    return torch.cat([torch.fft.irfft2(part, s=sizes, norm='forward') for part in parts], 1)


def _mul_conj(a: Tensor, b: Tensor) -> Tensor:
    """The product a * conj(b), where torch's lazy conjugate would be copied by the product."""
    return b.conj_physical().mul_(a)


def _sum_heads(x_hat: Tensor, head_dim: int) -> Tensor:
    """(B, C, H, W') -> (B, C / d, H, W'), summed over the channels of each head."""
    return x_hat if head_dim == 1 else x_hat.unflatten(1, (-1, head_dim)).sum(2)


def _spread_heads(x_hat: Tensor, head_dim: int) -> Tensor:
    """(B, C / d, H, W') -> (B, C, H, W'), repeated for the channels of each head."""
    return x_hat if head_dim == 1 else x_hat.repeat_interleave(head_dim, 1)


def _parseval_product(a_hat: Tensor, b_hat: Tensor, width: int) -> Tensor:
    """N times the sums over batch and grid of a_i * b_j, (B, A, H, W') and (B, C, H, W') -> (A, C).

    Parseval: N sum_n a_n b_n = sum_f Re(a_hat_f conj(b_hat_f)) over the whole spectrum. Columns of
    the half spectrum count twice, except the first and, for even W, the last. Overwrites a_hat.
    """
    for column in (0, width // 2) if width % 2 == 0 else (0,):
        a_hat[..., column] *= 0.5
    a, b = (torch.view_as_real(x).flatten(2) for x in (a_hat, b_hat))
    return torch.bmm(a, b.mT).sum(0).mul_(2)
