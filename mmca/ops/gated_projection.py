"""The gate and the output projection of circulant attention as one op."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmca.ops.pointwise import gate_, gate_backward_
from mmca.ops.precision import first_order_backward, matmul_dtype, without_autocast


def gated_projection(
    out: Tensor,
    x: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
) -> Tensor:
    """(out . SiLU(x W_T + b_T)) W_O + b_O, the token reweighting of arXiv 2512.21542, section 4.4.

    For the backward pass it keeps `out` and `x` and computes the gate again, which trades one
    matrix product for two or three tensors of the tokens' size. Gradients are of first order only.

    Args:
        out: (B, N, C) output of an attention.
        x: (B, N, C) its input.
        gate_weight, proj_weight: (C, C), as in `nn.Linear`.
        gate_bias, proj_bias: (C,).

    Returns:
        (B, N, C), `mT` contiguous, in the dtype of x, under autocast in that of its products.

    Example:
        >>> out, x = torch.randn(2, 2, 15, 8)
        >>> weights = torch.randn(8, 8), torch.zeros(8), torch.randn(8, 8), torch.zeros(8)
        >>> gated_projection(out, x, *weights).shape
        torch.Size([2, 15, 8])
    """
    dtype = matmul_dtype(x)
    tensors = (out.mT, x.mT, gate_weight, gate_bias, proj_weight, proj_bias)
    with without_autocast(x.device):
        return _GatedProjection.apply(*(t.to(dtype) for t in tensors)).mT


def _project(weight: Tensor, maps: Tensor) -> Tensor:
    """(B, C, N) -> (B, D, N)."""
    return torch.bmm(weight.expand(maps.shape[0], -1, -1), maps)


class _GatedProjection(torch.autograd.Function):
    """On (B, C, N), the layout that convolutions and transforms give without a copy."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        out: Tensor,
        x: Tensor,
        gate_weight: Tensor,
        gate_bias: Tensor,
        proj_weight: Tensor,
        proj_bias: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(out, x, gate_weight, gate_bias, proj_weight)
        gated = gate_(_project(gate_weight, x), gate_bias, out)
        return _project(proj_weight, gated).add_(proj_bias[:, None])

    @staticmethod
    @first_order_backward
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        out, x, gate_weight, gate_bias, proj_weight = ctx.saved_tensors
        logits, grad_gated = _project(gate_weight, x), _project(proj_weight.mT, grad)
        gated, grad_out, grad_logits = gate_backward_(logits, gate_bias, out, grad_gated)
        return (
            grad_out,
            _project(gate_weight.mT, grad_logits),
            torch.bmm(grad_logits, x.mT).sum(0),
            grad_logits.sum((0, 2)),
            torch.bmm(grad, gated.mT).sum(0),
            grad.sum((0, 2)),
        )
