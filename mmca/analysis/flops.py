"""Multiply-adds of a module, those of attentions that torch's counter cannot see included."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmca.layers import Attention
from mmca.ops import use_backend
from mmca.ops.circulant import dft_macs

__all__ = ['FlopReport', 'count_flops', 'dft_macs']


@dataclass(frozen=True)
class FlopReport:
    """Size and cost of a module.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of convolutions, matrix products and transforms.
        dft: the part of `macs` that torch's counter cannot see: the transforms and spectral
            products of circulant attention, and the `extra_macs` of any other.
    """

    params: int
    macs: int
    dft: int


def count_flops(module: nn.Module, *args: object, **kwargs: object) -> FlopReport:
    """Run a module once and count its multiply-adds.

    Counted are convolutions, matrix products, softmax attention (both of its products) and the
    `extra_macs` of attentions; element-wise work, norms and activations are not, as in the
    published tables. Circulant attention is counted by its definition: q, k and v projected from
    the tokens and transformed.

    Args:
        module: any module; it runs in its present mode, without gradients.
        args, kwargs: its inputs.

    Returns:
        Parameters of the module and multiply-adds of this one call.

    Example:
        >>> from mmca.layers import CirculantAttention
        >>> count_flops(CirculantAttention(64), torch.zeros(1, 196, 64), (14, 14))
        FlopReport(params=20608, macs=4637370, dft=623290)
    """
    extra = 0

    def hook(attn: Attention, args: tuple) -> None:
        nonlocal extra
        x, hw_shape = args
        extra += len(x) * attn.extra_macs(hw_shape)

    layers = [m for m in module.modules() if isinstance(m, Attention)]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        # The counter's hooks make fused paths call their submodules one by one, and the eager
        # backend transforms by FFT at all sizes. The CPU's fused attention is unknown to the
        # counter; written out, it is two products.
        with (
            torch.no_grad(),
            use_backend('eager'),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            module(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    macs = counter.get_total_flops() // 2 + extra
    return FlopReport(sum(p.numel() for p in module.parameters()), macs, extra)
