"""The functions of `mmca.ops.pointwise` as Triton kernels.

Every number is read and written once, but for softmaxes, whose maps are read twice: a map is
spread over programs, and each first leaves its part of the map's sum. All take contiguous tensors
and compute in float32, in float64 for float64. With TRITON_INTERPRET=1 in the environment before
Triton is imported they run on the CPU, slowly, which is how they are tested.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmca.ops.precision import wide_dtype

BLOCK = 1024  # numbers computed at a time
PROGRAMS = 1024  # what a softmax is spread over, at least, where its maps are long enough


def mul_conj(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """See :func:`mmca.ops.pointwise.mul_conj`."""
    planes = [torch.view_as_real(x) for x in (a, b, out)]
    numel = planes[0][:1].numel() // 2
    with torch.cuda.device_of(a):
        _mul_conj[triton.cdiv(numel, BLOCK), len(a)](
            *planes, *(x.stride(0) for x in planes), numel, BLOCK
        )
    return out


@triton.jit
def _mul_conj(a, b, out, a_stride, b_stride, out_stride, numel, BLOCK: tl.constexpr):
    at = 2 * BLOCK * tl.program_id(0) + tl.arange(0, 2 * BLOCK)
    inside, image = at < 2 * numel, tl.program_id(1).to(tl.int64)
    x = tl.load(a + image * a_stride + at, inside).reshape(BLOCK, 2)
    y = tl.load(b + image * b_stride + at, inside).reshape(BLOCK, 2)
    x_real, x_imag = tl.split(x)
    y_real, y_imag = tl.split(y)
    product = tl.join(x_real * y_real + x_imag * y_imag, x_imag * y_real - x_real * y_imag)
    tl.store(out + image * out_stride + at, product.reshape(2 * BLOCK), inside)


def softmax(logits: Tensor) -> Tensor:
    """See :func:`mmca.ops.pointwise.softmax`."""
    grid, args = _spread(logits)
    out, (tops, sums) = torch.empty_like(logits), logits.new_empty(2, *grid)
    with torch.cuda.device_of(logits):
        _softmax_sums[grid](logits, tops, sums, *args[:2], BLOCK)
        _softmax[grid](logits, tops, sums, out, *args, BLOCK)
    return out


@triton.jit
def _softmax_sums(logits, tops, sums, length, part, BLOCK: tl.constexpr):
    row, start = tl.program_id(0).to(tl.int64), tl.program_id(1) * part
    top = tl.full((), float('-inf'), logits.dtype.element_ty)
    total = tl.zeros((), logits.dtype.element_ty)
    for first in range(start, tl.minimum(start + part, length), BLOCK):
        at = first + tl.arange(0, BLOCK)
        x = tl.load(logits + row * length + at, at < length, float('-inf'))
        new_top = tl.maximum(top, tl.max(x))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(x - new_top))
        top = new_top
    place = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(tops + place, top)
    tl.store(sums + place, total)


@triton.jit
def _softmax(
    logits, tops, sums, out, length, part, parts, PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    row, start = tl.program_id(0).to(tl.int64), tl.program_id(1) * part
    each = tl.arange(0, PARTS)
    part_tops = tl.load(tops + row * parts + each, each < parts, float('-inf'))
    part_sums = tl.load(sums + row * parts + each, each < parts, 0)
    top = tl.max(part_tops)
    total = tl.sum(part_sums * tl.exp(part_tops - top))
    for first in range(start, tl.minimum(start + part, length), BLOCK):
        at = first + tl.arange(0, BLOCK)
        x = tl.load(logits + row * length + at, at < length, 0)
        tl.store(out + row * length + at, tl.exp(x - top) / total, at < length)


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """See :func:`mmca.ops.pointwise.softmax_backward`."""
    grid, args = _spread(weights)
    out, sums = torch.empty_like(weights), weights.new_empty(grid)
    with torch.cuda.device_of(weights):
        _softmax_backward_sums[grid](grad, weights, sums, *args[:2], BLOCK)
        _softmax_backward[grid](grad, weights, sums, out, *args, BLOCK)
    return out


@triton.jit
def _softmax_backward_sums(grad, weights, sums, length, part, BLOCK: tl.constexpr):
    row, start = tl.program_id(0).to(tl.int64), tl.program_id(1) * part
    total = tl.zeros((), weights.dtype.element_ty)
    for first in range(start, tl.minimum(start + part, length), BLOCK):
        at = first + tl.arange(0, BLOCK)
        g = tl.load(grad + row * length + at, at < length, 0)
        w = tl.load(weights + row * length + at, at < length, 0)
        total += tl.sum(g * w)
    tl.store(sums + row * tl.num_programs(1) + tl.program_id(1), total)


@triton.jit
def _softmax_backward(
    grad, weights, sums, out, length, part, parts, PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    row, start = tl.program_id(0).to(tl.int64), tl.program_id(1) * part
    each = tl.arange(0, PARTS)
    total = tl.sum(tl.load(sums + row * parts + each, each < parts, 0))
    for first in range(start, tl.minimum(start + part, length), BLOCK):
        at = first + tl.arange(0, BLOCK)
        g = tl.load(grad + row * length + at, at < length)
        w = tl.load(weights + row * length + at, at < length)
        tl.store(out + row * length + at, w * (g - total), at < length)


def _spread(maps: Tensor) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """(B, h, H, W) -> the grid, (maps, parts of a map), and `length, part, parts, PARTS`."""
    rows, length = maps.shape[0] * maps.shape[1], maps.shape[2] * maps.shape[3]
    blocks = triton.cdiv(length, BLOCK)
    part = triton.cdiv(blocks, min(triton.cdiv(PROGRAMS, rows), blocks)) * BLOCK
    parts = triton.cdiv(length, part)
    return (rows, parts), (length, part, parts, triton.next_power_of_2(parts))


def gate_(logits: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """See :func:`mmca.ops.pointwise.gate_`."""
    grid, args = _rows(logits)
    with torch.cuda.device_of(logits):
        _gate[grid](logits, bias, out, *args)
    return logits


@triton.jit
def _gate(logits, bias, out, channels, length, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at, inside = row * length + column, column < length
    x = tl.load(logits + at, inside).to(WIDE) + tl.load(bias + row % channels).to(WIDE)
    y = tl.load(out + at, inside).to(WIDE)
    tl.store(logits + at, x * tl.sigmoid(x) * y, inside)


def gate_backward_(
    logits: Tensor, bias: Tensor, out: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`mmca.ops.pointwise.gate_backward_`."""
    grid, args = _rows(logits)
    gated = torch.empty_like(logits)
    with torch.cuda.device_of(logits):
        _gate_backward[grid](logits, bias, out, grad, gated, *args)
    return gated, grad, logits


@triton.jit
def _gate_backward(
    logits, bias, out, grad, gated, channels, length, WIDE: tl.constexpr, BLOCK: tl.constexpr
):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at, inside = row * length + column, column < length
    x = tl.load(logits + at, inside).to(WIDE) + tl.load(bias + row % channels).to(WIDE)
    y = tl.load(out + at, inside).to(WIDE)
    g = tl.load(grad + at, inside).to(WIDE)
    sigmoid = tl.sigmoid(x)
    silu = x * sigmoid
    tl.store(gated + at, silu * y, inside)
    tl.store(grad + at, silu * g, inside)
    tl.store(logits + at, g * y * (sigmoid + silu * (1 - sigmoid)), inside)


def _rows(maps: Tensor) -> tuple[tuple[int, int], tuple[int, int, tl.dtype, int]]:
    """(B, C, N) -> the grid, (maps, blocks of a map), and a gate kernel's last arguments."""
    batch, channels, length = maps.shape
    wide = tl.float64 if wide_dtype(maps.dtype) == torch.float64 else tl.float32
    grid = batch * channels, triton.cdiv(length, BLOCK)
    return grid, (channels, length, wide, BLOCK)
