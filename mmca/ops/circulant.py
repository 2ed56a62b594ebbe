"""Circulant attention by FFT, O(N log N) in time and O(N) in memory.

Source: Han, Li, Wang, Huang, "Vision Transformers are Circulant Attention Learners", AAAI 2026,
arXiv 2512.21542. Equations 13 to 15 there; the dense forms are in `mmca.ops.naive`.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from mmca.errors import InputError
from mmca.ops.pointwise import mul_conj, softmax, softmax_backward
from mmca.ops.precision import wide_dtype, without_autocast
from mmca.ops.dft_matrices import real_form
from mmca.ops.fft import irfft2, parseval_product, rfft2

Scale = Literal['sqrt', 'paper'] | float


def logit_scale(scale: Scale, num_tokens: int, head_dim: int) -> float:
    """The factor between the correlation sum_d Q (*) K and the attention logits.

    Args:
        scale: 'sqrt' is 1 / sqrt(N * d), what the authors' released code computes and their
            weights need; 'paper' is 1 / (N * sqrt(d)), the Frobenius projection of
            Q K^T / sqrt(d) (arXiv 2512.21542, eq. 15); a number is taken as the whole factor.
        num_tokens: N.
        head_dim: d.

    Returns:
        The factor.

    Raises:
        InputError: unknown scale.
    """
    if scale == 'sqrt':
        return 1 / math.sqrt(num_tokens * head_dim)
    if scale == 'paper':
        return 1 / (num_tokens * math.sqrt(head_dim))
    if isinstance(scale, str) or not math.isfinite(scale):
        raise InputError(f"scale must be 'sqrt', 'paper' or a finite number, got {scale!r}")
    return float(scale)


def check_tokens(x: Tensor, hw_shape: tuple[int, int]) -> None:
    """Refuse tokens that do not lie on the H x W grid.

    Args:
        x: (B, N, C) tokens.
        hw_shape: (H, W).

    Raises:
        InputError: `x` has no three dimensions, or H * W != N.
    """
    height, width = hw_shape
    if x.dim() != 3:
        raise InputError(f'tokens must be (B, N, C), got a tensor of shape {tuple(x.shape)}')
    if height < 1 or width < 1 or height * width != x.shape[1]:
        raise InputError(
            f'hw_shape={(height, width)} has {height * width} tokens, but the input of shape '
            f'{tuple(x.shape)} has N={x.shape[1]}: pass the (H, W) with H * W = N'
        )


def check_qkv(q: Tensor, k: Tensor, v: Tensor, hw_shape: tuple[int, int], head_dim: int) -> None:
    """Refuse q, k, v that circulant attention cannot take.

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
    """
    check_qkv(q, k, k, hw_shape, head_dim)
    dtype = wide_dtype(q.dtype)
    factor = logit_scale(scale, q.shape[1], head_dim)
    with without_autocast(q.device):
        q_hat, k_hat = (_spectrum(x.to(dtype), hw_shape) for x in (q, k))
        return _weights((q_hat * factor).conj() * k_hat, hw_shape, head_dim)


def circulant_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """O = softmax(a) (*) V with a = scale * sum_d Q (*) K, per head (arXiv 2512.21542).

    (b (*) x)_n = sum_m b_m x_{n+m} is the circular cross-correlation on the H x W torus, that
    is the product of x with the block-circulant matrix whose first row is b. The grid wraps
    around: the result depends on the grid's size, so padding an image changes every token.

    Memory layout is free. `q.mT` being contiguous, as when a projection writes (B, C, N), is
    the fastest; the result has that layout. Gradients are of first order only.

    Args:
        q, k, v: (B, N, C) with N = H * W, any floating dtype. Anything narrower than float32 is
            computed in float32 with autocast off.
        hw_shape: (H, W), any size from 1 x 1.
        head_dim: d; channels h*d .. h*d + d-1 form head h. The paper's default is 1, every
            channel its own head.
        scale: 'sqrt', 'paper' or a number, see :func:`logit_scale`.

    Returns:
        (B, N, C) in the dtype of v.

    Raises:
        InputError: H * W != N, shapes differ, d does not divide C, or scale is unknown.
    """
    check_qkv(q, k, v, hw_shape, head_dim)
    dtype = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    factor = logit_scale(scale, q.shape[1], head_dim)
    with without_autocast(q.device):
        maps = [x.to(dtype).mT for x in (q, k, v)]
        if torch.onnx.is_in_onnx_export():
            maps = [x.unflatten(2, hw_shape) for x in maps]
            out = real_form(*maps, head_dim, factor).flatten(2)
        else:
            out = _CirculantAttention.apply(*maps, tuple(hw_shape), head_dim, factor)
    return out.mT.to(v.dtype)


def circulant_self_attention(
    x: Tensor,
    weight: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
) -> Tensor:
    """:func:`circulant_attention` of q, k, v = x W_q, x W_k, x W_v.

    A projection acts on channels, a Fourier transform on the grid: they commute. Projecting the
    spectrum of x takes one transform in place of three, and one in place of three on the way
    back. For the backward pass it keeps that spectrum and the kernel, 2 * B * N * C numbers, and
    projects again.

    Args:
        x: (B, N, C) tokens, N = H * W, any floating dtype and memory layout; `x.mT` being
            contiguous saves a copy.
        weight: (3 C, C), the rows of W_q, W_k and W_v^T as in `nn.Linear(C, 3 * C)`.
        hw_shape, head_dim, scale: as for :func:`circulant_attention`.

    Returns:
        (B, N, C) in the dtype of x, `mT` contiguous.

    Raises:
        InputError: as there, or the weight is not (3 C, C).
    """
    check_qkv(x, x, x, hw_shape, head_dim)
    channels = x.shape[2]
    if weight.shape != (3 * channels, channels):
        raise InputError(
            f'weight must be (3 C, C) = {(3 * channels, channels)} for tokens of shape '
            f'{tuple(x.shape)}, got {tuple(weight.shape)}'
        )
    if torch.onnx.is_in_onnx_export():
        q, k, v = (x @ weight.mT).chunk(3, 2)
        return circulant_attention(q, k, v, hw_shape, head_dim, scale)
    dtype = wide_dtype(x.dtype)
    factor = logit_scale(scale, x.shape[1], head_dim)
    with without_autocast(x.device):
        out = _CirculantSelfAttention.apply(
            x.to(dtype).mT, weight.to(dtype), tuple(hw_shape), head_dim, factor
        )
    return out.mT.to(x.dtype)


# What follows works on maps, (B, C, N), and their half spectra, (B, C, H, W'). Two things make it
# lean. The logits are built reversed, r_m = a_{-m}, with spectrum q_hat * conj(k_hat): softmax
# does not mind, and correlating with the kernel is then a plain product with the spectrum of the
# reversed one, so that the only conjugate is that of k_hat. And the backward pass is written out:
# neither the logits nor the kernel's spectrum nor conjugates are kept, and the spectra of q, k and
# v turn into those of their gradients where they lie.


def _spectrum(tokens: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """(B, N, C) -> (B, C, H, W')."""
    return rfft2(tokens.mT.unflatten(2, hw_shape))


def _sum_heads(x_hat: Tensor, head_dim: int) -> Tensor:
    """(B, C, H, W') -> (B, C / d, H, W'), summed over the channels of each head."""
    return x_hat if head_dim == 1 else x_hat.unflatten(1, (-1, head_dim)).sum(2)


def _spread_heads(x_hat: Tensor, head_dim: int) -> Tensor:
    """(B, C / d, H, W') -> (B, C, H, W'), repeated for the channels of each head."""
    return x_hat if head_dim == 1 else x_hat.repeat_interleave(head_dim, 1)


def _weights(products: Tensor, hw_shape: tuple[int, int], head_dim: int) -> Tensor:
    """Softmax of logits: (B, C, H, W') spectra, one a channel -> (B, C / d, H, W)."""
    logits_hat = _sum_heads(products, head_dim)
    # Softmax ignores a constant. The common offset of the logits is by far their largest
    # part on large grids, so leaving it out of the spectrum is what keeps the digits.
    logits_hat[..., 0, 0] = 0
    return softmax(irfft2(logits_hat, hw_shape))


def _apply(weights: Tensor, v_hat: Tensor, hw_shape: tuple[int, int], head_dim: int) -> Tensor:
    """Reversed kernels (B, C / d, H, W) on values (B, C, H, W') -> (B, C, N)."""
    out_hat = _spread_heads(rfft2(weights), head_dim).mul_(v_hat)
    return irfft2(out_hat, hw_shape).flatten(2)


def _backward_(
    k_hat: Tensor,
    q_hat: Tensor,
    v_hat: Tensor,
    grad: Tensor,
    weights: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int,
) -> None:
    """Turn the spectra of k, q and v into those of the gradients of q, k and v, in this order.

    Args:
        k_hat, q_hat, v_hat: (B, C, H, W'), q with the scale; overwritten.
        grad: (B, C, N) of the output.
        weights: (B, C / d, H, W) reversed kernels.
        hw_shape, head_dim: of the forward pass.
    """
    grad_hat = rfft2(grad.unflatten(2, hw_shape))
    products = mul_conj(grad_hat, v_hat, out=v_hat)
    on_weights = irfft2(_sum_heads(products, head_dim), hw_shape)
    mul_conj(grad_hat, _spread_heads(rfft2(weights), head_dim), out=v_hat)
    on_logits = rfft2(softmax_backward(on_weights, weights))
    on_logits[..., 0, 0] = 0
    on_logits = _spread_heads(on_logits, head_dim)
    k_hat.mul_(on_logits)
    mul_conj(q_hat, on_logits)


class _CirculantAttention(torch.autograd.Function):
    """Maps q, k, v -> the output's maps, all (B, C, N)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        hw_shape: tuple[int, int],
        head_dim: int,
        factor: float,
    ) -> Tensor:
        q_hat, k_hat, v_hat = (rfft2(x.unflatten(2, hw_shape)) for x in (q, k, v))
        q_hat.mul_(factor)
        weights = _weights(k_hat.conj_physical().mul_(q_hat), hw_shape, head_dim)
        ctx.save_for_backward(k_hat, q_hat, v_hat, weights)
        ctx.hw_shape, ctx.head_dim, ctx.factor = hw_shape, head_dim, factor
        return _apply(weights, v_hat, hw_shape, head_dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        *spectra, weights = ctx.saved_tensors
        spectra = [x.clone() for x in spectra]
        _backward_(*spectra, grad, weights, ctx.hw_shape, ctx.head_dim)
        spectra[0].mul_(ctx.factor)
        return *(irfft2(x, ctx.hw_shape).flatten(2) for x in spectra), None, None, None


class _CirculantSelfAttention(torch.autograd.Function):
    """Maps x (B, C, N) and the weight (3 C, C) -> the output's maps (B, C, N)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        hw_shape: tuple[int, int],
        head_dim: int,
        factor: float,
    ) -> Tensor:
        x_hat = rfft2(x.unflatten(2, hw_shape))
        w_q, w_k, w_v = weight.chunk(3)
        products = mul_conj(_project(w_q * factor, x_hat), _project(w_k, x_hat))
        weights = _weights(products, hw_shape, head_dim)
        ctx.save_for_backward(x_hat, weight, weights)
        ctx.hw_shape, ctx.head_dim, ctx.factor = hw_shape, head_dim, factor
        return _apply(weights, _project(w_v, x_hat), hw_shape, head_dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_hat, weight, weights = ctx.saved_tensors
        w_q, w_k, w_v = weight.chunk(3)
        w_q = w_q * ctx.factor
        spectra = _project(torch.cat([w_k, w_q, w_v]), x_hat)
        _backward_(*spectra.chunk(3, 1), grad, weights, ctx.hw_shape, ctx.head_dim)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x_hat = _project(torch.cat([w_q, w_k, w_v]).mT, spectra)
            grad_x = irfft2(grad_x_hat, ctx.hw_shape).flatten(2)
        if ctx.needs_input_grad[1]:
            grad_weight = parseval_product(spectra, x_hat, ctx.hw_shape)
            grad_weight[: len(w_q)] *= ctx.factor
        return grad_x, grad_weight, None, None, None


def _planes(x_hat: Tensor) -> Tensor:
    """(B, C, H, W') complex -> (B, C, 2 H W'), the same memory."""
    return torch.view_as_real(x_hat).flatten(2)


def _project(weight: Tensor, x_hat: Tensor) -> Tensor:
    """A real (D, C) matrix on the channels of spectra, (B, C, H, W') -> (B, D, H, W')."""
    batch, _, height, width = x_hat.shape
    # bmm, because matmul copies what it broadcasts
    out = torch.bmm(weight.expand(batch, -1, -1), _planes(x_hat))
    return torch.view_as_complex(out.view(batch, -1, height, width, 2))
