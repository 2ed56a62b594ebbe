"""How spread out attention weights are."""

import math

import torch
from torch import Tensor, nn

from mmca.layers import Attention


def normalized_entropy(weights: Tensor) -> float:
    """Mean entropy of attention weights: 0 where one token has it all, 1 where all have the same.

    Args:
        weights: (..., M) weights of M tokens, each row of sum one.

    Returns:
        The mean over all rows of -sum w log w / log M; 1 for M = 1.

    Example:
        >>> normalized_entropy(torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
        0.5
    """
    tokens = weights.shape[-1]
    if tokens == 1:
        return 1.0
    return (-torch.xlogy(weights, weights).sum(-1).mean() / math.log(tokens)).item()


def attention_entropies(model: nn.Module, *args: object, num_queries: int = 16) -> dict[str, float]:
    """Run a model once and measure the entropy of every attention in it.

    Weights are those of `Attention.attention_weights`, over all tokens of the layer's grid: window
    attention, which sees one window, stays below one.

    Args:
        model: any module with attentions of `mmca.layers`; it runs in its present mode, without
            gradients.
        args: its inputs.
        num_queries: query tokens that the mean is taken over, evenly spaced on the grid.

    Returns:
        Path of the attention -> normalized entropy, see :func:`normalized_entropy`. Attentions
        that define no weights are left out.
    """
    entropies: dict[str, list[float]] = {}

    def measure(path: str, attn: Attention, args: tuple) -> None:
        x, hw_shape = args
        count = min(num_queries, x.shape[1])
        for token in torch.linspace(0, x.shape[1] - 1, count).long().tolist():
            weights = attn.attention_weights(x, hw_shape, token).flatten(2)
            entropies.setdefault(path, []).append(normalized_entropy(weights))

    handles = [
        module.register_forward_pre_hook(lambda attn, args, path=path: measure(path, attn, args))
        for path, module in model.named_modules()
        if isinstance(module, Attention)
        and type(module).attention_weights is not Attention.attention_weights
    ]
    try:
        with torch.no_grad():
            model(*args)
    finally:
        for handle in handles:
            handle.remove()
    return {path: sum(values) / len(values) for path, values in entropies.items()}
