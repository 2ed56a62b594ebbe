"""Circulant attention by FFT, O(N log N) in time and O(N) in memory.

Source: Han, Li, Wang, Huang, "Vision Transformers are Circulant Attention Learners", AAAI 2026,
arXiv 2512.21542, equations 13 to 15. :func:`circulant_attention_reference` is the whole method;
`mmca.ops.fused_circulant` takes less time and memory.

Key logits go beyond the paper: softmax attention is nearest, among all matrices with one kernel and
one weight per key, to exp(a_{m-n} + b_m). A circulant matrix and a matrix of equal rows have only
constants in common, so both parts of the projection are closed forms.
"""

from __future__ import annotations

import math
from typing import Literal, Union

import torch
from torch import Tensor

from mmca.errors import InputError
from mmca.ops.backend import choose_backend
from mmca.ops.dft import real_form
from mmca.ops.fused_circulant import FusedCirculantAttention
from mmca.ops.layout import check_tokens, to_maps, to_tokens
from mmca.ops.precision import wide_dtype, without_autocast

Scale = Union[Literal['sqrt', 'paper'], float]


def logit_scale(scale: Scale, num_tokens: int, head_dim: int) -> float:
    """The factor between the correlation sum_d Q (*) K and the attention logits.

    Args:
        scale: 'sqrt' is 1 / sqrt(N * d), which the authors' released code computes and their
            weights need; 'paper' is 1 / (N * sqrt(d)), the Frobenius projection of
            Q K^T / sqrt(d) (arXiv 2512.21542, eq. 15); a number is the factor itself.
        num_tokens: N.
        head_dim: d.

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


def check_qkv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int,
    key_logits: Tensor | None = None,
) -> None:
    """Raise InputError for arguments that :func:`circulant_attention` does not accept."""
    check_tokens(q, hw_shape)
    if not q.shape == k.shape == v.shape:
        raise InputError(
            'q, k and v must have the same shape, got '
            f'{tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}'
        )
    if head_dim < 1 or q.shape[2] % head_dim:
        raise InputError(f'head_dim must divide C, got head_dim={head_dim}, C={q.shape[2]}')
    if key_logits is not None:
        expected = q.shape[0], q.shape[2] // head_dim, q.shape[1]
        if key_logits.shape != expected:
            raise InputError(
                f'key_logits must be (B, C / d, N) = {expected}, got {tuple(key_logits.shape)}'
            )


def correlate(b: Tensor, x: Tensor) -> Tensor:
    """The circular cross-correlation sum_m b_m x_{n+m} of maps (..., H, W), at least float32."""
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
        logits = _kernel_logits(q, k, hw_shape, head_dim, scale)
        return logits.flatten(2).softmax(2).view_as(logits)


def _kernel_logits(
    q: Tensor, k: Tensor, hw_shape: tuple[int, int], head_dim: int, scale: Scale
) -> Tensor:
    """The mean-free logits a, (B, C / d, H, W)."""
    q, k = (to_maps(x.to(wide_dtype(x.dtype)), hw_shape) for x in (q, k))
    # The mean of q adds a constant to all logits. Softmax ignores it, and on large grids it
    # would be their largest part by far and cost precision.
    q = (q - q.mean((2, 3), keepdim=True)) * logit_scale(scale, q[0, 0].numel(), head_dim)
    return correlate(q, k).unflatten(1, (-1, head_dim)).sum(2)


def circulant_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int = 1,
    scale: Scale = 'sqrt',
    key_logits: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """:func:`circulant_attention` as in the paper, differentiated by autograd.

    Args, Returns, Raises: as there. Supports gradients of any order.

    Example:
        >>> q, k, v = torch.randn(3, 2, 15, 8)
        >>> out = circulant_attention(q, k, v, hw_shape=(3, 5))
        >>> torch.allclose(out, circulant_attention_reference(q, k, v, (3, 5)), atol=1e-5)
        True
    """
    check_qkv(q, k, v, hw_shape, head_dim, key_logits)
    out, lse, _ = _reference(q, k, v, hw_shape, head_dim, scale, key_logits)
    return (out, lse) if return_lse else out


def _reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int,
    scale: Scale,
    key_logits: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    with without_autocast(q.device):
        logits = _kernel_logits(q, k, hw_shape, head_dim, scale)
        lse = logits.flatten(2).logsumexp(2, keepdim=True)  # (B, heads, 1)
        kernel = (logits - lse[..., None]).exp()
        v_map = to_maps(v.to(kernel.dtype), hw_shape).unflatten(1, (-1, head_dim))
        if key_logits is None:
            out = correlate(kernel[:, :, None], v_map)
            lse = lse.expand(-1, -1, q.shape[1])
        else:
            weights, largest = _key_weights(key_logits.to(kernel.dtype))
            weights = weights.unflatten(2, hw_shape)
            total = _safe_divisor(correlate(kernel, weights).flatten(2))  # (B, heads, N)
            out = correlate(kernel[:, :, None], weights[:, :, None] * v_map)
            out = out / total.unflatten(2, hw_shape)[:, :, None]
            lse = lse + largest + total.log()
        return to_tokens(out.flatten(1, 2)).to(v.dtype), lse, logits


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
    """O = softmax(a) (*) V with a = scale * sum_d Q (*) K, per head (arXiv 2512.21542).

    (b (*) x)_n = sum_m b_m x_{n+m} is the circular cross-correlation on the H x W torus: the
    product of x with the block-circulant matrix whose first row is b. The grid wraps around, so
    the result depends on the grid's size, and padding an image changes every token.

    With key logits b, token n attends to token n + m with a weight proportional to
    exp(a_m + b_{n+m}):

        O = (e^a (*) (e^b V)) / (e^a (*) e^b)

    FFTs have an absolute error, and the divisor can be as small as exp(-range of a) times its
    largest value. In float32, the error relative to the values stays below 1e-7 * exp(range of a)
    for any range of b. Divisors below the FFT's precision are clamped to it, which keeps results
    finite.

    Supports only first-order gradients.

    Args:
        q, k, v: (B, N, C) with N = H * W, any floating dtype and memory layout. Dtypes narrower
            than float32 are computed in float32 with autocast off.
        hw_shape: (H, W), any size from 1 x 1 up.
        head_dim: d; channels h*d .. h*d + d-1 form head h. The paper's default is 1: each
            channel is a head.
        scale: 'sqrt', 'paper' or a number, see :func:`logit_scale`.
        key_logits: b, (B, C / d, N), one logit per head and key; -inf masks a key exactly. A
            head with all keys masked gives zeros.
        return_lse: also return log sum_m exp(a_m + b_{n+m}), where a has its mean removed, to
            combine the result with attention to further tokens.

    Returns:
        (B, N, C) in the dtype of v; with return_lse also (B, C / d, N), at least float32.

    Raises:
        InputError: H * W != N, shapes differ, d does not divide C, or scale is unknown.

    Example:
        >>> q, k, v = torch.randn(3, 2, 15, 8)
        >>> circulant_attention(q, k, v, hw_shape=(3, 5)).shape
        torch.Size([2, 15, 8])
        >>> b = torch.full((2, 8, 15), float('-inf')).index_fill(2, torch.tensor(4), 0.0)
        >>> out = circulant_attention(q, k, v, hw_shape=(3, 5), key_logits=b)  # only token 4
        >>> torch.allclose(out, v[:, 4:5].expand_as(v), atol=1e-4)
        True
    """
    check_qkv(q, k, v, hw_shape, head_dim, key_logits)
    out, lse, _ = attend(q, k, v, hw_shape, head_dim, scale, key_logits, return_lse)
    return (out, lse) if return_lse else out


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int,
    scale: Scale,
    key_logits: Tensor | None,
    details: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """:func:`circulant_attention` without checks.

    Returns:
        The output; with `details` also the logarithms of the sums, (B, C / d, N), and the mean-free
        logits a, (B, C / d, H, W), both at least float32.
    """
    exporting = torch.onnx.is_in_onnx_export()
    if not exporting and choose_backend() == 'eager':
        return _reference(q, k, v, hw_shape, head_dim, scale, key_logits)
    dtype = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    tokens, heads, lse, logits = q.shape[1], q.shape[2] // head_dim, None, None
    with without_autocast(q.device):
        q, k, values = (x.to(dtype).mT for x in (q, k, v))  # (B, C, N)
        q = q * (logit_scale(scale, tokens, head_dim) / tokens)
        values = values / tokens
        if key_logits is not None:  # each head's values times its weights, and these weights
            weights, largest = _key_weights(key_logits.to(dtype))
            values = values.unflatten(1, (heads, -1)) * weights[:, :, None]
            values = torch.cat([values, weights[:, :, None] / tokens], 2).flatten(1, 2)
        x = torch.cat([q, k, values], 1).unflatten(2, hw_shape)
        transform = real_form if exporting else FusedCirculantAttention.apply
        out = transform(x, None, heads, head_dim, details)
        if details:
            out, logits = out
            lse = logits.flatten(2).logsumexp(2, keepdim=True).expand(-1, -1, tokens)
            logits = logits.flip((2, 3)).roll((1, 1), (2, 3))  # a_m = r_{-m}
        out = out.flatten(2)
        if key_logits is not None:
            out, total = out.unflatten(1, (heads, -1)).split([head_dim, 1], 2)
            total = _safe_divisor(total[:, :, 0])
            out = (out / total[:, :, None]).flatten(1, 2)
            lse = lse + largest + total.log() if details else None
    return out.mT.contiguous().to(v.dtype), lse, logits


def _key_weights(key_logits: Tensor) -> tuple[Tensor, Tensor]:
    """e^(b - max b), and max b, (B, heads, 1)."""
    largest = key_logits.detach().amax(2, keepdim=True)
    return (key_logits - largest.clamp(min=torch.finfo(largest.dtype).min)).exp(), largest


def _safe_divisor(total: Tensor) -> Tensor:
    """(B, heads, N), raised to what the transforms can resolve; 1 where all keys are masked."""
    floor = total.detach().amax(2, keepdim=True) * torch.finfo(total.dtype).eps
    return torch.maximum(total, floor.masked_fill(floor <= 0, 1.0))


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
        x_map = to_maps(x.to(dtype), hw_shape).contiguous()
        heads = channels // head_dim
        out = FusedCirculantAttention.apply(x_map, scaled, heads, head_dim)
    return to_tokens(out).contiguous().to(x.dtype)
