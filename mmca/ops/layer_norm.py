"""LayerNorm of tokens in either memory layout."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.ops.backend import choose_backend
from mmca.ops.precision import first_order_backward


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm over channels that keeps the memory layout of its input.

    torch's own copies tokens that are stored channels first, as convolutions and Fourier
    transforms want them, and returns them channels last. The 'cpu' backend normalizes the maps in
    a few passes instead, which take little longer than torch's kernel and save the block the
    copies around it. Other backends take torch's. Gradients are of first order only.

    Args:
        x: (B, N, C).
        weight, bias: (C,).
        eps: added to the variance.

    Returns:
        (B, N, C) in the dtype of x; under CUDA's autocast in float32.

    Example:
        >>> x = torch.randn(2, 8, 15).mT
        >>> layer_norm(x, torch.ones(8), torch.zeros(8), eps=1e-6).mT.is_contiguous()
        True
    """
    maps = x.mT
    channels_first = maps.is_contiguous() and not x.is_contiguous()
    wide = x.dtype in (torch.float32, torch.float64)
    if channels_first and wide and choose_backend(x) == 'cpu':
        return _LayerNorm.apply(maps, weight, bias, eps).mT
    return F.layer_norm(x, weight.shape, weight, bias, eps)


class _LayerNorm(torch.autograd.Function):
    """On (B, C, N)."""

    @staticmethod
    def forward(ctx: FunctionCtx, maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean = maps.mean(1, keepdim=True)
        out = maps - mean
        rstd = (out * out).mean(1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(maps, mean, rstd, weight)
        return out.mul_(rstd).mul_(weight[:, None]).add_(bias[:, None])

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, mean, rstd, weight = ctx.saved_tensors
        normal = (maps - mean).mul_(rstd)
        product = grad * normal
        grad_weight, grad_bias = product.sum((0, 2)), grad.sum((0, 2))
        mean_product = product.mul_(weight[:, None]).mean(1, keepdim=True)
        grad_maps = grad * weight[:, None]
        grad_maps.sub_(grad_maps.mean(1, keepdim=True)).sub_(normal.mul_(mean_product)).mul_(rstd)
        return grad_maps, grad_weight, grad_bias, None
