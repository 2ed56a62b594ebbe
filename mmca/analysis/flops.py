"""Multiply-adds of a module, the transforms of circulant attention included."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmca.layers import CirculantAttention
from mmca.ops.fft import without_matrices


@dataclass(frozen=True)
class FlopReport:
    """Size and cost of a module.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of convolutions, matrix products and transforms.
        dft: the part of `macs` that the transforms and spectral products take.
    """

    params: int
    macs: int
    dft: int


def dft_macs(num_tokens: int, embed_dims: int, head_dim: int = 1) -> int:
    """Multiply-adds of one circulant attention outside its projections.

    N log2(N) (4d + 2) + 4 N d for each head: 4d + 2 real transforms (q, k, v and the output,
    d each; the logits and the weights) and two products of spectra.

    Args:
        num_tokens: N.
        embed_dims: C, that is C / d heads.
        head_dim: d.

    Returns:
        The count for one image.
    """
    per_head = num_tokens * math.log2(num_tokens) * (4 * head_dim + 2) + 4 * num_tokens * head_dim
    return round(per_head * (embed_dims // head_dim))


def count_flops(module: nn.Module, *args: object, **kwargs: object) -> FlopReport:
    """Run a module once and count its multiply-adds.

    Counted are convolutions, matrix products, softmax attention (both of its products) and the
    DFTs of circulant attention; element-wise work, norms and activations are not, as in the
    published tables. Circulant attention is counted by its definition: q, k and v projected
    from the tokens and transformed. Our layer transforms first and projects the half spectrum,
    which has up to 2 / W more numbers than there are tokens, but takes fewer transforms.

    Args:
        module: any module; it runs in its present mode, without gradients.
        args, kwargs: its inputs.

    Returns:
        Parameters of the module and multiply-adds of this one call.
    """
    dft = excess = 0

    def hook(layer: CirculantAttention, args: tuple) -> None:
        nonlocal dft, excess
        x, (height, width) = args
        batch, num_tokens, channels = x.shape
        dft += batch * dft_macs(num_tokens, channels, layer.head_dim)
        if layer.reweighting != 'pre':
            half_spectrum = 2 * height * (width // 2 + 1)
            excess += batch * 3 * channels**2 * (half_spectrum - num_tokens)

    layers = [m for m in module.modules() if isinstance(m, CirculantAttention)]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        # The CPU's fused attention is unknown to the counter; written out, it is two products.
        with (
            torch.no_grad(),
            without_matrices(),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            module(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    macs = counter.get_total_flops() // 2 - excess + dft
    return FlopReport(sum(p.numel() for p in module.parameters()), macs, dft)
