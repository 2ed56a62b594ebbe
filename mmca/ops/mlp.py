"""The two-layer perceptron of a transformer block, in chunks that stay in the cache."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.ops.backend import choose_backend
from mmca.ops.precision import first_order_backward, matmul_dtype, wide_dtype, without_autocast

# Numbers of the hidden layer computed at a time: 8 MiB of float32. Measured once on a CPU at
# 200 x 336 x 64 with 512 hidden channels, 2^18 to 2^22 numbers: 88, 78, 74, 73, 71 ms, all at
# once 165. The C library returns every allocation above 32 MiB to the system, which clears it page
# by page; so the buffers are allocated once for all chunks.
CHUNK = 1 << 21


def mlp(x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
    """GELU(x W_1 + b_1) W_2 + b_2 on tokens, without keeping the hidden layer.

    The hidden layer is the largest tensor of a transformer block, 4 to 8 times the tokens, and
    autograd keeps it twice. The 'cpu' backend computes it in chunks of `CHUNK` numbers and keeps
    the input alone; the backward pass computes each chunk again, which costs a sixth more products
    and saves more than that. A hidden layer of one chunk and the other backends take the eager
    form. Gradients of the chunked form are of first order only.

    Args:
        x: (B, N, C), any memory layout.
        w_in, b_in: (D, C) and (D,), as in `nn.Linear(C, D)`.
        w_out, b_out: (C, D) and (C,).

    Returns:
        (B, N, C) in the layout of x where it is computed in chunks; in the dtype of x, under
        autocast in that of its products.

    Example:
        >>> x, w_in, w_out = torch.randn(2, 15, 8), torch.randn(32, 8), torch.randn(8, 32)
        >>> mlp(x, w_in, torch.zeros(32), w_out, torch.zeros(8)).shape
        torch.Size([2, 15, 8])
    """
    if choose_backend(x) != 'cpu' or x.shape[0] * x.shape[1] * len(w_in) <= CHUNK:
        return F.linear(F.gelu(F.linear(x, w_in, b_in)), w_out, b_out)
    dtype = matmul_dtype(x)
    with without_autocast(x.device):
        return _Mlp.apply(*(t.to(dtype) for t in (x, w_in, b_in, w_out, b_out)))


def _chunks(tokens: Tensor, hidden_dims: int, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """(B, N, C) tensors, cut alike into (n, C) views; images are joined where memory allows."""
    tensors = (tokens, *others)
    if all(t.is_contiguous() for t in tensors):
        tensors = tuple(t.view(1, -1, t.shape[2]) for t in tensors)
    for image in zip(*tensors, strict=True):
        yield from zip(*(t.split(_step(tokens, hidden_dims)) for t in image), strict=True)


def _step(tokens: Tensor, hidden_dims: int) -> int:
    """Tokens in a chunk."""
    return min(max(CHUNK // hidden_dims, 1), tokens.shape[0] * tokens.shape[1])


def _affine(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    # Adding afterwards is faster than addmm, which first copies the bias to every row.
    return torch.mm(x, weight.mT, out=out).add_(bias)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add the product of two matrices to one that may have a wider dtype."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, w_in, b_in, w_out)
        out = torch.empty_like(x)
        buffer = x.new_empty(_step(x, len(w_in)), len(w_in))
        for tokens, result in _chunks(x, len(w_in), out):
            hidden = _affine(tokens, w_in, b_in, buffer[: len(tokens)])
            _affine(torch.ops.aten.gelu_(hidden), w_out, b_out, result)
        return out

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        x, w_in, b_in, w_out = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        # Sums over chunks in half precision would lose what each chunk adds.
        dtype = wide_dtype(x.dtype)
        grad_w_in, grad_b_in, grad_w_out = (
            torch.zeros_like(t, dtype=dtype) for t in (w_in, b_in, w_out)
        )
        buffers = x.new_empty(2, _step(x, len(w_in)), len(w_in))
        for tokens, grad_result, grad_tokens in _chunks(x, len(w_in), grad, grad_x):
            hidden, other = buffers[:, : len(tokens)]
            _affine(tokens, w_in, b_in, hidden)
            _add_product(grad_w_out, grad_result.mT, torch.ops.aten.gelu.out(hidden, out=other))
            torch.mm(grad_result, w_out, out=other)
            grad_hidden = torch.ops.aten.gelu_backward.grad_input(other, hidden, grad_input=other)
            _add_product(grad_w_in, grad_hidden.mT, tokens)
            grad_b_in += grad_hidden.sum(0)
            torch.mm(grad_hidden, w_in, out=grad_tokens)
        grads = (t.to(x.dtype) for t in (grad_w_in, grad_b_in, grad_w_out))
        return grad_x, *grads, grad.sum((0, 1))
