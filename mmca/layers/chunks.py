"""Run the widest part of a layer in chunks that fit into a CPU's cache."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Numbers of the widest intermediate tensor at a time, 8 MiB of float32.
CHUNK = 1 << 21


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """function(x) without its intermediate tensors as a whole, where x is large and on a CPU.

    Each chunk is computed again in the backward pass. Modules that the function calls, and their
    hooks, see the chunks.

    Args:
        function: acts on every row alone.
        x: (rows, ...).
        width: numbers a row in the widest intermediate tensor.

    Returns:
        function(x).

    Example:
        >>> in_chunks(torch.exp, torch.zeros(3, 1), width=1 << 20).shape
        torch.Size([3, 1])
    """
    rows = max(CHUNK // width, 1)
    if torch.compiler.is_compiling() or x.device.type != 'cpu' or x.shape[0] <= rows:
        return function(x)
    return torch.cat([checkpoint(function, chunk, use_reentrant=False) for chunk in x.split(rows)])
