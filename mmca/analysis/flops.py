"""Multiply-adds of a module, including those of attentions that torch's counter cannot see."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmca.analysis.maps import watch
from mmca.layers import Attention, Block
from mmca.ops import use_backend


@dataclass(frozen=True)
class FlopReport:
    """Size and cost of a module.

    Attributes:
        params: number of parameters.
        macs: multiply-adds of convolutions, matrix products and transforms.
        dft: the part that torch's counter cannot see, `extra_macs` of attentions.
        exported_dft: the same in an ONNX file, where matrix products replace transforms.
    """

    params: int
    macs: int
    dft: int
    exported_dft: int = 0


def count_flops(module: nn.Module, *args: object, **kwargs: object) -> FlopReport:
    """Run a module once and count its multiply-adds.

    As in the published tables, convolutions, matrix products, softmax attention (both products)
    and transforms count; element-wise work, norms and activations do not. Circulant attention
    counts by its definition: q, k and v projected from the tokens and transformed.

    Args:
        module: any module; it runs in its current mode, without gradients.
        args, kwargs: its inputs.

    Example:
        >>> from mmca.layers import CirculantAttention
        >>> count_flops(CirculantAttention(64), torch.zeros(1, 196, 64), (14, 14))
        FlopReport(params=20608, macs=4637370, dft=623290, exported_dft=3662848)
    """
    extra = exported = 0

    def note(path: str, attn: nn.Module, args: tuple, *_: object) -> None:
        nonlocal extra, exported
        x, hw_shape = args
        extra += len(x) * attn.extra_macs(hw_shape)
        exported += len(x) * attn.exported_macs(hw_shape)

    # The counter's hooks make fused paths call their submodules one by one, and the eager backend
    # transforms by FFT at all sizes. The counter does not know the CPU's fused softmax attention.
    with (
        torch.no_grad(),
        use_backend('eager'),
        sdpa_kernel(SDPBackend.MATH),
        watch(module, Attention, note),
        FlopCounterMode(display=False) as counter,
    ):
        module(*args, **kwargs)
    macs = counter.get_total_flops() // 2 + extra
    return FlopReport(sum(p.numel() for p in module.parameters()), macs, extra, exported)


@torch.no_grad()
def block_macs(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Multiply-adds of every block of a backbone by its path, for images (B, 3, H, W)."""
    calls: dict[str, tuple[nn.Module, tuple]] = {}
    with watch(model, Block, lambda path, block, args, *_: calls.update({path: (block, args)})):
        model(images)
    return {path: count_flops(block, *args).macs for path, (block, args) in calls.items()}
