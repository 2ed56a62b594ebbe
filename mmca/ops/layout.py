"""Tokens laid out channels first, as transforms and convolutions want them."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

# Tokens copied at a time, few enough for their cache lines to stay in the cache until all their
# channels are read. Measured once on a CPU, all at once and in pieces: 67200 x 64 10.2 and 4.0 ms,
# 16800 x 128 12.3 and 3.3, 4200 x 320 1.3 and 1.2.
PIECE = 2048


def channels_first(x: Tensor) -> Tensor:
    """(B, N, C) tokens -> (B, C, N) contiguous.

    Args:
        x: tokens, any dtype and memory layout.

    Returns:
        `x.mT` where that is contiguous, else a copy.
    """
    maps = x.mT
    if maps.is_contiguous() or x.device.type != 'cpu' or torch.compiler.is_compiling():
        return maps.contiguous()
    return _ChannelsFirst.apply(x)


class _ChannelsFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        out = x.new_empty(x.mT.shape)
        for source, target in zip(x.mT.split(PIECE, 2), out.split(PIECE, 2), strict=True):
            target.copy_(source)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        return grad.mT
