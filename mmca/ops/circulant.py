"""Circulant attention by FFT, O(N log N) in time and O(N) in memory.

Source: Han, Li, Wang, Huang, "Vision Transformers are Circulant Attention Learners", AAAI 2026,
arXiv 2512.21542, equations 13 to 15. :func:`circulant_attention_reference` is the whole method and
the 'eager' backend. The form below it takes less time and memory; its backward pass is written out.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.errors import InputError
from mmca.ops.backend import choose_backend
from mmca.ops.dft import real_form
from mmca.ops.fft import (
    inverse,
    mul_conj,
    parseval_product,
    project,
    spread_heads,
    sum_heads,
)
from mmca.ops.layout import check_tokens, to_maps, to_tokens
from mmca.ops.opaque import as_node, opaque
from mmca.ops.precision import first_order_backward, wide_dtype, without_autocast

Scale = Literal['sqrt', 'paper'] | float


def logit_scale(scale: Scale, num_tokens: int, head_dim: int) -> float:
    """The factor between the correlation sum_d Q (*) K and the attention logits.

    Args:
        scale: 'sqrt' is 1 / sqrt(N * d), which the authors' released code computes and their
            weights need; 'paper' is 1 / (N * sqrt(d)), the Frobenius projection of
            Q K^T / sqrt(d) (arXiv 2512.21542, eq. 15); a number is the factor itself.
        num_tokens: N.
        head_dim: d.

    Returns:
        The factor.

    Raises:
        InputError: unknown scale.

    Example:
        >>> logit_scale('sqrt', num_tokens=100, head_dim=1)
        0.1
    """
    if scale == 'sqrt':
        return (num_tokens * head_dim) ** -0.5  # math.sqrt would freeze N in an export
    if scale == 'paper':
        return 1 / (num_tokens * math.sqrt(head_dim))
    if isinstance(scale, str) or not math.isfinite(scale):
        raise InputError(f"scale must be 'sqrt', 'paper' or a finite number, got {scale!r}")
    return float(scale)


def check_qkv(q: Tensor, k: Tensor, v: Tensor, hw_shape: tuple[int, int], head_dim: int) -> None:
    """Check the arguments of circulant attention.

    Args:
        q, k, v: (B, N, C) each.
        hw_shape: (H, W) with H * W = N.
        head_dim: d, must divide C.

    Raises:
        InputError: shapes differ, N is not H * W, or d does not divide C.
    """
    check_tokens(q, hw_shape)
    if not q.shape == k.shape == v.shape:
        raise InputError(
            'q, k and v must have one shape, got '
            f'{tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}'
        )
    if head_dim < 1 or q.shape[2] % head_dim:
        raise InputError(f'head_dim must divide C, got head_dim={head_dim}, C={q.shape[2]}')


def correlate(b: Tensor, x: Tensor) -> Tensor:
    """The circular cross-correlation (b (*) x)_n = sum_m b_m x_{n+m} on the H x W torus.

    Args:
        b, x: (..., H, W), float32 or float64.

    Returns:
        (..., H, W).
    """
    return torch.fft.irfft2(torch.fft.rfft2(b).conj() * torch.fft.rfft2(x), s=x.shape[-2:])


def circulant_kernel(
    q: Tensor, k: Tensor, hw_shape: tuple[int, int], head_dim: int = 1, scale: Scale = 'sqrt'
) -> Tensor:
    """The attention weights softmax(a), a = scale * sum_d Q (*) K, as one kernel per head.

    Token n of a head attends to token n + m of the torus with the weight at m, for every n: the
    kernel is the first row of the head's block-circulant attention matrix.

    Args:
        q, k, hw_shape, head_dim, scale: as for :func:`circulant_attention`.

    Returns:
        (B, C / d, H, W), float64 for float64, else float32; each kernel sums to one.

    Example:
        >>> q, k = torch.randn(2, 1, 15, 8)
        >>> kernel = circulant_kernel(q, k, hw_shape=(3, 5), head_dim=4)
        >>> kernel.shape, torch.allclose(kernel.sum((2, 3)), torch.ones(1, 2))
        (torch.Size([1, 2, 3, 5]), True)
    """
    check_qkv(q, k, k, hw_shape, head_dim)
    with without_autocast(q.device):
        q, k = (to_maps(x.to(wide_dtype(x.dtype)), hw_shape) for x in (q, k))
        # The mean of q adds a constant to all logits. Softmax ignores it, and on large grids it
        # would be their largest part by far and cost precision.
        q = (q - q.mean((2, 3), keepdim=True)) * logit_scale(scale, q[0, 0].numel(), head_dim)
        logits = correlate(q, k).unflatten(1, (-1, head_dim)).sum(2)
        return logits.flatten(2).softmax(2).view_as(logits)


def circulant_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """:func:`circulant_attention` as the paper writes it, differentiated by autograd.

    Args, Returns, Raises: as there. Gradients of any order.

    Example:
        >>> q, k, v = torch.randn(3, 2, 15, 8)
        >>> out = circulant_attention(q, k, v, hw_shape=(3, 5))
        >>> torch.allclose(out, circulant_attention_reference(q, k, v, (3, 5)), atol=1e-5)
        True
    """
    kernel = circulant_kernel(q, k, hw_shape, head_dim, scale)
    with without_autocast(v.device):
        v_map = to_maps(v.to(kernel.dtype), hw_shape)
        return to_tokens(correlate(kernel.repeat_interleave(head_dim, 1), v_map)).to(v.dtype)


def circulant_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """O = softmax(a) (*) V with a = scale * sum_d Q (*) K, per head (arXiv 2512.21542).

    (b (*) x)_n = sum_m b_m x_{n+m} is the circular cross-correlation on the H x W torus: the
    product of x with the block-circulant matrix whose first row is b. The grid wraps around, so
    the result depends on the grid's size, and padding an image changes every token.

    Gradients are of first order only.

    Args:
        q, k, v: (B, N, C) with N = H * W, any floating dtype and memory layout. Dtypes narrower
            than float32 are computed in float32 with autocast off.
        hw_shape: (H, W), any size from 1 x 1.
        head_dim: d; channels h*d .. h*d + d-1 form head h. The paper's default is 1, every
            channel its own head.
        scale: 'sqrt', 'paper' or a number, see :func:`logit_scale`.

    Returns:
        (B, N, C) in the dtype of v.

    Raises:
        InputError: H * W != N, shapes differ, d does not divide C, or scale is unknown.

    Example:
        >>> q, k, v = torch.randn(3, 2, 15, 8)
        >>> circulant_attention(q, k, v, hw_shape=(3, 5)).shape
        torch.Size([2, 15, 8])
    """
    check_qkv(q, k, v, hw_shape, head_dim)
    if torch.onnx.is_in_onnx_export():
        return _exported(q, k, v, hw_shape, head_dim, scale)
    if choose_backend() == 'eager':
        return circulant_attention_reference(q, k, v, hw_shape, head_dim, scale)
    dtype = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    tokens = q.shape[1]
    factor = logit_scale(scale, tokens, head_dim)
    with without_autocast(q.device):
        qkv = torch.cat([q.to(dtype) * (factor / tokens), k.to(dtype), v.to(dtype) / tokens], 2)
        out = _CirculantAttention.apply(to_maps(qkv, hw_shape).contiguous(), None, head_dim)
    return to_tokens(out).contiguous().to(v.dtype)


def circulant_self_attention(
    x: Tensor,
    weight: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """:func:`circulant_attention` of q, k, v = x W_q, x W_k, x W_v.

    A projection acts on channels, a Fourier transform on the grid: they commute. Projecting the
    spectrum of x takes one transform instead of three, in the backward pass too. For that pass it
    keeps the spectrum and the kernel, 2 * B * N * C numbers, and projects again.

    Args:
        x: (B, N, C) tokens, N = H * W, any floating dtype and memory layout.
        weight: (3 C, C), the rows of W_q, W_k and W_v^T as in `nn.Linear(C, 3 * C)`.
        hw_shape, head_dim, scale: as for :func:`circulant_attention`.

    Returns:
        (B, N, C) in the dtype of x.

    Raises:
        InputError: as for :func:`circulant_attention`, or the weight is not (3 C, C).

    Example:
        >>> x, weight = torch.randn(2, 15, 8), torch.randn(24, 8)
        >>> out = circulant_self_attention(x, weight, hw_shape=(3, 5))
        >>> q, k, v = (x @ weight.T).chunk(3, dim=2)
        >>> torch.allclose(out, circulant_attention(q, k, v, (3, 5)), atol=1e-4)
        True
    """
    check_qkv(x, x, x, hw_shape, head_dim)
    tokens, channels = x.shape[1:]
    if weight.shape != (3 * channels, channels):
        raise InputError(
            f'weight must be (3 C, C) = {(3 * channels, channels)} for tokens of shape '
            f'{tuple(x.shape)}, got {tuple(weight.shape)}'
        )
    dtype = wide_dtype(x.dtype)
    with without_autocast(x.device):
        if torch.onnx.is_in_onnx_export() or choose_backend() == 'eager':
            q, k, v = (x.to(dtype) @ weight.to(dtype).mT).chunk(3, 2)
            return circulant_attention(q, k, v, hw_shape, head_dim, scale).to(x.dtype)
        w_q, w_k, w_v = weight.to(dtype).chunk(3)
        factor = logit_scale(scale, tokens, head_dim)
        scaled = torch.cat([w_q * (factor / tokens), w_k, w_v / tokens])
        out = _CirculantAttention.apply(
            to_maps(x.to(dtype), hw_shape).contiguous(), scaled, head_dim
        )
    return to_tokens(out).contiguous().to(x.dtype)


def _exported(
    q: Tensor, k: Tensor, v: Tensor, hw_shape: tuple[int, int], head_dim: int, scale: Scale
) -> Tensor:
    """:func:`circulant_attention` in the operators of ONNX."""
    dtype = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    q_map, k_map, v_map = (to_maps(x.to(dtype), hw_shape) for x in (q, k, v))
    factor = logit_scale(scale, q.shape[1], head_dim)
    return to_tokens(real_form(q_map, k_map, v_map, head_dim, factor)).to(v.dtype)


# Below: maps (B, C, H, W) and their half spectra (B, C, H, W'). The logits are built reversed,
# r_m = a_{-m}, with the spectrum q_hat * conj(k_hat): softmax ignores the order, and correlating
# with the kernel becomes a plain product with the spectrum of the reversed kernel. No transform is
# normalized: q comes multiplied by scale / N and v by 1 / N, which by the chain rule also makes up
# for the transforms of the backward pass.


class _CirculantAttention(torch.autograd.Function):
    """x (B, C, H, W) and the weight (3 C, C) -> (B, C, H, W).

    Without a weight, x holds the channels of q, k and v.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor | None, head_dim: int) -> Tensor:
        out, x_hat, kernel = as_node(_attend)(x, weight, head_dim)
        ctx.save_for_backward(x_hat, weight, kernel)
        ctx.head_dim = head_dim
        return out

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        need_x, need_weight, _ = ctx.needs_input_grad
        args = (*ctx.saved_tensors, ctx.head_dim, need_x, need_weight)
        grad_x, grad_weight = as_node(_attend_backward)(grad_out, *args)
        return grad_x if need_x else None, grad_weight if need_weight else None, None


@opaque
def _attend(x: Tensor, weight: Tensor | None, head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and for the backward pass the spectrum of x and the reversed kernels."""
    x_hat = torch.fft.rfft2(x)
    q_hat, k_hat, v_hat = project(weight, x_hat).chunk(3, 1)
    logits_hat = sum_heads(mul_conj(q_hat, k_hat), head_dim)
    logits_hat[..., 0, 0] = 0  # the mean of the logits, see circulant_kernel
    logits = inverse(logits_hat, x.shape[3])
    kernel = logits.flatten(2).softmax(2).view_as(logits)
    out_hat = spread_heads(torch.fft.rfft2(kernel), head_dim).mul_(v_hat)
    return inverse(out_hat, x.shape[3]), x_hat, kernel


@opaque
def _attend_backward(
    grad_out: Tensor,
    x_hat: Tensor,
    weight: Tensor | None,
    kernel: Tensor,
    head_dim: int,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and the weight; empty where not needed."""
    width, grad_out_hat = kernel.shape[3], torch.fft.rfft2(grad_out)
    # The gradients of q and k are written to each other's memory: swap them beforehand.
    spectra = _swap_q_k(x_hat, 1) if weight is None else project(_swap_q_k(weight, 0), x_hat)
    k_hat, q_hat, v_hat = spectra.chunk(3, 1)
    products = v_hat.conj_physical_().mul_(grad_out_hat)
    grad_logits = inverse(sum_heads(products, head_dim), width).mul_(kernel)
    grad_logits.sub_(kernel * grad_logits.sum((2, 3), keepdim=True))
    kernel_hat = spread_heads(torch.fft.rfft2(kernel), head_dim)
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


def _swap_q_k(x: Tensor, dim: int) -> Tensor:
    """The parts q, k, v along a dimension in the order k, q, v."""
    q, k, v = x.chunk(3, dim)
    return torch.cat([k, q, v], dim)
