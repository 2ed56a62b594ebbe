"""How spread out attention weights are."""

import math

import torch
from torch import Tensor


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
