"""Multiply-adds of a module, those of attentions that torch's counter cannot see included."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmca.layers import Attention, Block
from mmca.ops import use_backend
from mmca.ops.dft import dft_macs

__all__ = ['FlopReport', 'block_macs', 'count_flops', 'dft_macs']


@dataclass(frozen=True)
class FlopReport:
    """Size and cost of a module.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of convolutions, matrix products and transforms.
        dft: the part of `macs` that torch's counter cannot see: the transforms and spectral
            products of circulant attention, and the `extra_macs` of any other.
        exported_dft: the same part in an ONNX file, where matrix products replace transforms.
    """

    params: int
    macs: int
    dft: int
    exported_dft: int = 0


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
        FlopReport(params=20608, macs=4637370, dft=623290, exported_dft=3662848)
    """
    extra = exported = 0

    def hook(attn: Attention, args: tuple) -> None:
        nonlocal extra, exported
        x, hw_shape = args
        extra += len(x) * attn.extra_macs(hw_shape)
        exported += len(x) * attn.exported_macs(hw_shape)

    layers = [m for m in module.modules() if isinstance(m, Attention)]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        # The eager form projects tokens, like the definition. The counter does not know the CPU's
        # fused softmax attention; written out, it is two products.
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
    return FlopReport(sum(p.numel() for p in module.parameters()), macs, extra, exported)


def block_macs(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Multiply-adds of every block of a backbone.

    Args:
        model: one of `mmca.backbones`; on the meta device nothing is computed.
        images: (B, 3, H, W), on the model's device.

    Returns:
        Path of the block -> multiply-adds, as :func:`count_flops` has them.
    """
    blocks = {path: m for path, m in model.named_modules() if isinstance(m, Block)}
    inputs: dict[str, tuple] = {}
    handles = [
        block.register_forward_pre_hook(lambda _, args, path=path: inputs.update({path: args}))
        for path, block in blocks.items()
    ]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {path: count_flops(blocks[path], *args).macs for path, args in inputs.items()}
