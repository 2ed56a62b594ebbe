"""What circulant attention does between its transforms and products: softmax, gate, conjugates.

Each function has a form in torch and one in Triton that reads and writes every number once; see
`mmca.ops.backend`. The Triton kernels take contiguous maps, others take torch's form.
"""

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from mmca.ops.backend import choose_backend


def mul_conj(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The product a * conj(b).

    Args:
        a, b: (B, C, H, W') complex; b is overwritten.
        out: what the result is written to, a if not given; may be b.

    Returns:
        out.
    """
    out = a if out is None else out
    kernels = _kernels(a[:1], b[:1], out[:1])  # they take a part of the channels
    if kernels is not None:
        return kernels.mul_conj(a, b, out)
    b.conj_physical_()  # torch's lazy conjugate would be copied by the product
    if torch.compiler.is_compiling():  # takes no `out=` that is not contiguous
        return out.copy_(a * b)
    return torch.mul(a, b, out=out)


def softmax(logits: Tensor) -> Tensor:
    """Softmax over maps.

    Args:
        logits: (B, h, H, W), float32 or float64.

    Returns:
        (B, h, H, W), each map sums to one.
    """
    kernels = _kernels(logits)
    if kernels is not None:
        return kernels.softmax(logits)
    return logits.flatten(-2).softmax(-1).view_as(logits)


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """The gradient of the logits, weights * (grad - sum(grad * weights)).

    Args:
        grad: (B, h, H, W) of the weights.
        weights: (B, h, H, W), from :func:`softmax`.

    Returns:
        (B, h, H, W).
    """
    kernels = _kernels(grad, weights)
    if kernels is not None:
        return kernels.softmax_backward(grad, weights)
    rows = grad.flatten(-2), weights.flatten(-2)
    return torch.ops.aten._softmax_backward_data(*rows, -1, weights.dtype).view_as(weights)


def gate_(logits: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """SiLU(logits + bias) * out.

    Args:
        logits: (B, C, N); overwritten with the result.
        bias: (C,).
        out: (B, C, N).

    Returns:
        logits.
    """
    kernels = _kernels(logits, bias, out)
    if kernels is not None:
        return kernels.gate_(logits, bias, out)
    return F.silu(logits.add_(bias[:, None]), inplace=True).mul_(out)


def gate_backward_(
    logits: Tensor, bias: Tensor, out: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The result of :func:`gate_` again and the gradients of its inputs.

    Args:
        logits: (B, C, N); overwritten.
        bias: (C,).
        out: (B, C, N).
        grad: (B, C, N) of the result; overwritten.

    Returns:
        The result, the gradient of `out` and that of `logits`, (B, C, N) each.
    """
    kernels = _kernels(logits, bias, out, grad)
    if kernels is not None:
        return kernels.gate_backward_(logits, bias, out, grad)
    gate = F.silu(logits.add_(bias[:, None]))
    gated, grad_out = gate * out, gate.mul_(grad)
    return gated, grad_out, torch.ops.aten.silu_backward(grad.mul_(out), logits)


def _kernels(*tensors: Tensor) -> ModuleType | None:
    """The module of Triton kernels, if they are asked for and can take these tensors."""
    if choose_backend(tensors[0]) != 'triton' or not all(x.is_contiguous() for x in tensors):
        return None
    from mmca.ops.triton import kernels

    return kernels
