"""Circulant attention by FFT, O(N log N) in time and O(N) in memory.

Source: Han, Li, Wang, Huang, "Vision Transformers are Circulant Attention Learners", AAAI 2026,
arXiv 2512.21542, equations 13 to 15. The dense forms are in `mmca.ops.naive`.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.errors import InputError
from mmca.ops.dft_matrices import real_form
from mmca.ops.fft import irfft2, parseval_product, rfft2
from mmca.ops.layout import check_tokens, to_maps, to_tokens
from mmca.ops.opaque import opaque
from mmca.ops.pointwise import mul_conj, softmax, softmax_backward
from mmca.ops.precision import first_order_backward, wide_dtype, without_autocast

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


def dft_macs(num_tokens: int, embed_dims: int, head_dim: int = 1) -> int:
    """Multiply-adds of one circulant attention outside its projections.

    N log2(N) (4d + 2) + 4 N d for each head: 4d + 2 real transforms (q, k, v and the output,
    d each; the logits and the weights) and two products of spectra.

    Args:
        num_tokens: N.
        embed_dims: C, that is C / d heads.
        head_dim: d.

    Returns:
        The count for one image.
    """
    per_head = num_tokens * math.log2(num_tokens) * (4 * head_dim + 2) + 4 * num_tokens * head_dim
    return round(per_head * (embed_dims // head_dim))


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

    Example:
        >>> q, k = torch.randn(2, 1, 15, 8)
        >>> kernel = circulant_kernel(q, k, hw_shape=(3, 5), head_dim=4)
        >>> kernel.shape, torch.allclose(kernel.sum((2, 3)), torch.ones(1, 2))
        (torch.Size([1, 2, 3, 5]), True)
    """
    check_qkv(q, k, k, hw_shape, head_dim)
    dtype = wide_dtype(q.dtype)
    factor = logit_scale(scale, q.shape[1], head_dim) / q.shape[1]
    with without_autocast(q.device):
        q_hat, k_hat = (rfft2(to_maps(x.to(dtype), hw_shape)) for x in (q, k))
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

    Any memory layout works. The fastest is a contiguous `q.mT`, as when a projection writes
    (B, C, N); the result has that layout. Gradients are of first order only.

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

    Example:
        >>> q, k, v = torch.randn(3, 2, 15, 8)
        >>> circulant_attention(q, k, v, hw_shape=(3, 5)).shape
        torch.Size([2, 15, 8])
    """
    check_qkv(q, k, v, hw_shape, head_dim)
    dtype = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    tokens = q.shape[1]
    factor = logit_scale(scale, tokens, head_dim)
    with without_autocast(q.device):
        q_map, k_map, v_map = (to_maps(x.to(dtype), hw_shape) for x in (q, k, v))
        if torch.onnx.is_in_onnx_export():
            out = real_form(q_map, k_map, v_map, head_dim, factor)
        else:
            q_map, v_map = q_map * (factor / tokens), v_map / tokens
            out = _CirculantAttention.apply(q_map, k_map, v_map, head_dim)
    return to_tokens(out).to(v.dtype)


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
        x: (B, N, C) tokens, N = H * W, any floating dtype and memory layout; a contiguous `x.mT`
            saves a copy.
        weight: (3 C, C), the rows of W_q, W_k and W_v^T as in `nn.Linear(C, 3 * C)`.
        hw_shape, head_dim, scale: as for :func:`circulant_attention`.

    Returns:
        (B, N, C) in the dtype of x, `mT` contiguous.

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
    channels = x.shape[2]
    if weight.shape != (3 * channels, channels):
        raise InputError(
            f'weight must be (3 C, C) = {(3 * channels, channels)} for tokens of shape '
            f'{tuple(x.shape)}, got {tuple(weight.shape)}'
        )
    dtype = wide_dtype(x.dtype)
    if torch.onnx.is_in_onnx_export():
        q, k, v = (x.to(dtype) @ weight.to(dtype).mT).chunk(3, 2)
        return circulant_attention(q, k, v, hw_shape, head_dim, scale).to(x.dtype)
    tokens = x.shape[1]
    factor = logit_scale(scale, tokens, head_dim)
    with without_autocast(x.device):
        w_q, w_k, w_v = weight.to(dtype).chunk(3)
        scaled = torch.cat([w_q * (factor / tokens), w_k, w_v / tokens])
        out = _CirculantSelfAttention.apply(to_maps(x.to(dtype), hw_shape), scaled, head_dim)
    return to_tokens(out).to(x.dtype)


# What follows works on maps, (B, C, H, W), and their half spectra, (B, C, H, W'). Three things make
# it lean. The logits are built reversed, r_m = a_{-m}, with spectrum q_hat * conj(k_hat): softmax
# is indifferent to the order, and correlating with the kernel is then a product with the spectrum
# of the reversed one, so that the only conjugate is that of k_hat. No transform is normalized: q
# comes multiplied by scale / N and v by 1 / N, which by the chain rule also makes up for the
# transforms of the backward pass. And that pass is written out: it keeps neither the logits nor
# the kernel's spectrum nor conjugates, and computes the spectra of the gradients in the memory of
# those of q, k and v.


def _sum_heads(x_hat: Tensor, head_dim: int) -> Tensor:
    """(B, C, H, W') -> (B, C / d, H, W'), summed over the channels of each head."""
    return x_hat if head_dim == 1 else x_hat.unflatten(1, (-1, head_dim)).sum(2)


def _spread_heads(x_hat: Tensor, head_dim: int) -> Tensor:
    """(B, C / d, H, W') -> (B, C, H, W'), repeated for the channels of each head."""
    return x_hat if head_dim == 1 else x_hat.repeat_interleave(head_dim, 1)


def _weights(products: Tensor, hw_shape: tuple[int, int], head_dim: int) -> Tensor:
    """Softmax of logits: (B, C, H, W') spectra, one a channel -> (B, C / d, H, W)."""
    logits_hat = _sum_heads(products, head_dim)
    # Softmax ignores a constant. The common offset of the logits is by far their largest part on
    # large grids, so leaving it out of the spectrum preserves precision.
    logits_hat[..., 0, 0] = 0
    return softmax(irfft2(logits_hat, hw_shape))


def _apply(weights: Tensor, v_hat: Tensor, head_dim: int) -> Tensor:
    """Reversed kernels (B, C / d, H, W) on values (B, C, H, W') -> (B, C, H, W)."""
    out_hat = _spread_heads(rfft2(weights), head_dim).mul_(v_hat)
    return irfft2(out_hat, weights.shape[-2:])


def _input_gradients(
    q_hat: Tensor, k_hat: Tensor, v_hat: Tensor, grad_out: Tensor, weights: Tensor, head_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The spectra of the gradients of q, k and v.

    Args:
        q_hat, k_hat, v_hat: (B, C, H, W'). All are overwritten: the gradient of v is written to
            v_hat, that of q to k_hat, that of k to q_hat.
        grad_out: (B, C, H, W) of the output.
        weights: (B, C / d, H, W) reversed kernels.
        head_dim: d.

    Returns:
        Those of q, k and v, 1 / N of them: what the inverse without a factor turns into gradients.
    """
    hw_shape = weights.shape[-2:]
    grad_out_hat = rfft2(grad_out)
    products = mul_conj(grad_out_hat, v_hat, out=v_hat)
    grad_weights = irfft2(_sum_heads(products, head_dim), hw_shape)
    grad_v_hat = mul_conj(grad_out_hat, _spread_heads(rfft2(weights), head_dim), out=v_hat)
    grad_logits_hat = rfft2(softmax_backward(grad_weights, weights))
    grad_logits_hat[..., 0, 0] = 0
    grad_logits_hat = _spread_heads(grad_logits_hat, head_dim)
    grad_q_hat = k_hat.mul_(grad_logits_hat)
    grad_k_hat = mul_conj(q_hat, grad_logits_hat)
    return grad_q_hat, grad_k_hat, grad_v_hat


class _CirculantAttention(torch.autograd.Function):
    """Maps q, k, v -> the output's maps, all (B, C, H, W)."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, head_dim: int) -> Tensor:
        out, *saved = _attention(q, k, v, head_dim)
        ctx.save_for_backward(*saved)
        ctx.head_dim = head_dim
        return out

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        return *_attention_backward(grad_out, *ctx.saved_tensors, ctx.head_dim), None


@opaque
def _attention(
    q: Tensor, k: Tensor, v: Tensor, head_dim: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The output, and for the backward pass the spectra of q, k and v and the kernels."""
    q_hat, k_hat, v_hat = (rfft2(x) for x in (q, k, v))
    weights = _weights(k_hat.conj_physical().mul_(q_hat), q.shape[2:], head_dim)
    return _apply(weights, v_hat, head_dim), q_hat, k_hat, v_hat, weights


@opaque
def _attention_backward(
    grad_out: Tensor, q_hat: Tensor, k_hat: Tensor, v_hat: Tensor, weights: Tensor, head_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    spectra = (x_hat.clone() for x_hat in (q_hat, k_hat, v_hat))
    grads = _input_gradients(*spectra, grad_out, weights, head_dim)
    grad_q, grad_k, grad_v = (irfft2(g_hat, weights.shape[2:]) for g_hat in grads)
    return grad_q, grad_k, grad_v


class _CirculantSelfAttention(torch.autograd.Function):
    """Maps x (B, C, H, W) and the weight (3 C, C) -> the output's maps (B, C, H, W)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, head_dim: int) -> Tensor:
        out, x_hat, weights = _self_attention(x, weight, head_dim)
        ctx.save_for_backward(x_hat, weight, weights)
        ctx.head_dim = head_dim
        return out

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        need_x, need_weight, _ = ctx.needs_input_grad
        args = (*ctx.saved_tensors, ctx.head_dim, need_x, need_weight)
        grad_x, grad_weight = _self_attention_backward(grad_out, *args)
        return grad_x if need_x else None, grad_weight if need_weight else None, None


@opaque
def _self_attention(x: Tensor, weight: Tensor, head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and for the backward pass the spectrum of x and the kernels."""
    x_hat = rfft2(x)
    w_q, w_k, w_v = weight.chunk(3)
    products = mul_conj(_project(w_q, x_hat), _project(w_k, x_hat))
    weights = _weights(products, x.shape[2:], head_dim)
    return _apply(weights, _project(w_v, x_hat), head_dim), x_hat, weights


@opaque
def _self_attention_backward(
    grad_out: Tensor,
    x_hat: Tensor,
    weight: Tensor,
    weights: Tensor,
    head_dim: int,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and the weight; empty where not needed."""
    w_q, w_k, w_v = weight.chunk(3)
    # The gradient of q takes the place of k, that of k the place of q: projected in the order
    # k, q, v, the three gradients end up in the order q, k, v.
    spectra = _project(torch.cat([w_k, w_q, w_v]), x_hat)
    k_hat, q_hat, v_hat = spectra.chunk(3, 1)
    _input_gradients(q_hat, k_hat, v_hat, grad_out, weights, head_dim)
    grad_x = grad_weight = grad_out.new_empty(0)
    if need_x:
        grad_x = irfft2(_project(weight.mT, spectra), weights.shape[2:])
    if need_weight:
        grad_weight = parseval_product(spectra, x_hat, weights.shape[3])
    return grad_x, grad_weight


def _planes(x_hat: Tensor) -> Tensor:
    """(B, C, H, W') complex -> (B, C, 2 H W'), the same memory."""
    return torch.view_as_real(x_hat).flatten(2)


def _project(weight: Tensor, x_hat: Tensor) -> Tensor:
    """A real (D, C) matrix on the channels of spectra, (B, C, H, W') -> (B, D, H, W')."""
    batch, _, height, width = x_hat.shape
    # bmm, because matmul copies what it broadcasts
    out = torch.bmm(weight.expand(batch, -1, -1), _planes(x_hat))
    return torch.view_as_complex(out.view(batch, -1, height, width, 2))
