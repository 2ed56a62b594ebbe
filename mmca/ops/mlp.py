"""The two-layer perceptron of a transformer block, in pieces that stay in the cache."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from mmca.ops.precision import matmul_dtype, without_autocast

# Numbers of the hidden layer computed at a time: 16 MiB of float32. Measured once on a CPU at
# 200 x 336 x 64 with 512 hidden channels: 16 MiB 61 ms, 8 MiB 71 ms, 32 MiB 150 ms, all 188 ms.
# Beyond 32 MiB the C library hands every block back to the system, which clears it page by page.
CHUNK = 1 << 22


def mlp(x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
    """GELU(x W_1 + b_1) W_2 + b_2 on tokens, without keeping the hidden layer.

    The hidden layer is the largest tensor of a transformer block, 4 to 8 times the tokens, and
    autograd keeps it twice. On a CPU this op walks over the tokens in pieces of `CHUNK` hidden
    numbers and keeps the input alone; the backward pass computes each piece again, which costs
    a sixth more products and saves more than that. A hidden layer of one piece, another device,
    and torch.compile, which fuses the activation, take the plain form.
    Gradients are of first order only.

    Args:
        x: (B, N, C), any memory layout.
        w_in, b_in: (D, C) and (D,), as in `nn.Linear(C, D)`.
        w_out, b_out: (C, D) and (C,).

    Returns:
        (B, N, C) in the layout of x where it is computed in pieces; in the dtype of x, under
        autocast in that of its products.
    """
    small = x.shape[0] * x.shape[1] * len(w_in) <= CHUNK
    if small or x.device.type != 'cpu' or torch.compiler.is_compiling():
        return F.linear(F.gelu(F.linear(x, w_in, b_in)), w_out, b_out)
    dtype = matmul_dtype(x)
    with without_autocast(x.device):
        return _Mlp.apply(*(t.to(dtype) for t in (x, w_in, b_in, w_out, b_out)))


def _pieces(tokens: Tensor, hidden_dims: int, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """(B, N, C) tensors, cut alike into (n, C) views; images are joined where memory allows."""
    tensors = (tokens, *others)
    if all(t.is_contiguous() for t in tensors):
        tensors = tuple(t.view(1, -1, t.shape[2]) for t in tensors)
    step = max(CHUNK // hidden_dims, 1)
    for image in zip(*tensors, strict=True):
        yield from zip(*(t.split(step) for t in image), strict=True)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, w_in, b_in, w_out)
        out = torch.empty_like(x)
        for tokens, result in _pieces(x, len(w_in), out):
            torch.addmm(b_out, F.gelu(F.linear(tokens, w_in, b_in)), w_out.mT, out=result)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        x, w_in, b_in, w_out = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        grad_w_in, grad_b_in, grad_w_out = (torch.zeros_like(t) for t in (w_in, b_in, w_out))
        for tokens, on_result, on_tokens in _pieces(x, len(w_in), grad, grad_x):
            hidden = F.linear(tokens, w_in, b_in)
            grad_w_out.addmm_(on_result.mT, F.gelu(hidden))
            on_hidden = torch.ops.aten.gelu_backward(on_result @ w_out, hidden)
            grad_w_in.addmm_(on_hidden.mT, tokens)
            grad_b_in += on_hidden.sum(0)
            torch.mm(on_hidden, w_in, out=on_tokens)
        return grad_x, grad_w_in, grad_b_in, grad_w_out, grad.sum((0, 1))
