"""How spread out attention weights are, softmax and circulant."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmca.layers import (
    CirculantAttention,
    SelfAttention,
    SpatialReductionAttention,
    WindowAttention,
)
from mmca.ops import circulant_kernel

_SOFTMAX = (SelfAttention, SpatialReductionAttention, WindowAttention)


def normalised_entropy(weights: Tensor) -> float:
    """Mean entropy of attention weights: 0 where one token has it all, 1 where all have the same.

    Args:
        weights: (..., M) weights of M tokens, each row of sum one.

    Returns:
        The mean over all rows of -sum w log w / log M; 1 for M = 1.
    """
    tokens = weights.shape[-1]
    if tokens == 1:
        return 1.0
    return (-torch.xlogy(weights, weights).sum(-1).mean() / math.log(tokens)).item()


class _Recorder(TorchFunctionMode):
    """Computes the weights of every scaled_dot_product_attention besides its output."""

    def __init__(self, record: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            q, k, _ = args
            logits = q.float() @ k.float().mT / math.sqrt(q.shape[-1])
            mask = kwargs.get('attn_mask')
            self.record((logits if mask is None else logits + mask).softmax(-1))
        return func(*args, **kwargs)


def attention_entropies(model: nn.Module, *args: object) -> dict[str, float]:
    """Run a model once and measure the entropy of every circulant and softmax attention in it.

    Args:
        model: any module with the layers of `mmca.layers`; it runs in its present mode, without
            gradients.
        args: its inputs. The N x M weights of softmax layers are built, so keep images small.

    Returns:
        Path of the layer -> normalised entropy, see :func:`normalised_entropy`.
    """
    weights: dict[str, list[Tensor]] = {}
    current = ''

    def enter(path: str, layer: nn.Module, args: tuple) -> None:
        nonlocal current
        current = path
        if isinstance(layer, CirculantAttention):
            x, hw_shape = args
            q, k, _ = layer.project(x)
            kernel = circulant_kernel(q, k, hw_shape, layer.head_dim, layer.scale)
            weights[path] = [kernel.flatten(2)]

    handles = [
        module.register_forward_pre_hook(lambda layer, args, path=path: enter(path, layer, args))
        for path, module in model.named_modules()
        if isinstance(module, (CirculantAttention, *_SOFTMAX))
    ]
    try:
        # A layer of windows attends once for each kind of window.
        with torch.no_grad(), _Recorder(lambda w: weights.setdefault(current, []).append(w)):
            model(*args)
    finally:
        for handle in handles:
            handle.remove()
    return {path: normalised_entropy(torch.cat(parts)) for path, parts in weights.items()}
