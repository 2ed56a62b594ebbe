"""LayerNorm of tokens in either memory layout."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over channels that leaves tokens in the memory layout they come in.

    torch's own copies tokens that lie channels first, as convolutions and Fourier transforms
    want them, and returns them channels last. On the CPU a few passes over the maps take little
    longer than its kernel, and the block saves the copies around it; elsewhere, and where
    torch.compile fuses, this is torch's.
    Gradients are of first order only.

    Args:
        x: (B, N, C).
        weight, bias: (C,).
        eps: added to the variance.

    Returns:
        (B, N, C) in the dtype of x.
    """
    maps = x.mT
    plain = x.is_contiguous() or not maps.is_contiguous()
    narrow = x.dtype not in (torch.float32, torch.float64)
    if plain or narrow or x.device.type != 'cpu' or torch.compiler.is_compiling():
        return F.layer_norm(x, weight.shape, weight, bias, eps)
    return _LayerNorm.apply(maps, weight, bias, eps).mT


class _LayerNorm(torch.autograd.Function):
    """On maps (B, C, N)."""

    @staticmethod
    def forward(ctx: FunctionCtx, maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean = maps.mean(1, keepdim=True)
        out = maps - mean
        rstd = (out * out).mean(1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(maps, mean, rstd, weight)
        return out.mul_(rstd).mul_(weight[:, None]).add_(bias[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, mean, rstd, weight = ctx.saved_tensors
        normal = (maps - mean).mul_(rstd)
        product = grad * normal
        grad_weight, grad_bias = product.sum((0, 2)), grad.sum((0, 2))
        along = product.mul_(weight[:, None]).mean(1, keepdim=True)
        out = grad * weight[:, None]
        out.sub_(out.mean(1, keepdim=True)).sub_(normal.mul_(along)).mul_(rstd)
        return out, grad_weight, grad_bias, None
