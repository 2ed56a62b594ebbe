"""The gate and the output projection of circulant attention as one op."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from mmca.ops.precision import matmul_dtype, without_autocast


def gated_projection(
    out: Tensor,
    x: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
) -> Tensor:
    """(out . SiLU(x W_T + b_T)) W_O + b_O, the token reweighting of arXiv 2512.21542, section 4.4.

    For the backward pass it keeps `out` and `x` and computes the gate again: one matrix product
    for two or three tensors of the tokens' size. Gradients are of first order only.

    Args:
        out: (B, N, C) output of an attention.
        x: (B, N, C) its input.
        gate_weight, proj_weight: (C, C), as in `nn.Linear`.
        gate_bias, proj_bias: (C,).

    Returns:
        (B, N, C), `mT` contiguous, in the dtype of x, under autocast in that of its products.
    """
    dtype = matmul_dtype(x)
    tensors = (out.mT, x.mT, gate_weight, gate_bias, proj_weight, proj_bias)
    with without_autocast(x.device):
        return _GatedProjection.apply(*(t.to(dtype) for t in tensors)).mT


def _affine(weight: Tensor, bias: Tensor, maps: Tensor) -> Tensor:
    """(B, C, N) -> (B, D, N)."""
    return torch.bmm(weight.expand(len(maps), -1, -1), maps).add_(bias[:, None])


class _GatedProjection(torch.autograd.Function):
    """On maps (B, C, N), which a layer of convolutions or transforms gives without a copy."""

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
        gate = F.silu(_affine(gate_weight, gate_bias, x), inplace=True)
        return _affine(proj_weight, proj_bias, gate.mul_(out))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        out, x, gate_weight, gate_bias, proj_weight = ctx.saved_tensors
        logits = _affine(gate_weight, gate_bias, x)
        gate = F.silu(logits)
        gated = gate * out
        grad_proj = torch.bmm(grad, gated.mT).sum(0)
        on_gated = torch.bmm(proj_weight.mT.expand(len(x), -1, -1), grad)
        on_gate = torch.mul(on_gated, out, out=gated)
        on_logits = torch.ops.aten.silu_backward.grad_input(on_gate, logits, grad_input=logits)
        return (
            gate.mul_(on_gated),
            torch.bmm(gate_weight.mT.expand(len(x), -1, -1), on_logits),
            torch.bmm(on_logits, x.mT).sum(0),
            on_logits.sum((0, 2)),
            grad_proj,
            grad.sum((0, 2)),
        )
