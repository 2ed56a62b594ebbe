"""Run the widest part of a layer in chunks that fit into a CPU's cache."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmca.ops.compat import is_compiling

# Numbers of the widest intermediate tensor at a time, 8 MiB of float32.
CHUNK = 1 << 21


def in_chunks(function: Callable[..., Tensor], *tensors: Tensor, width: int) -> Tensor:
    """Compute function(*tensors) in chunks if the tensors are large and on a CPU.

    Each chunk is computed again in the backward pass. Modules that the function calls, and their
    hooks, see the chunks.

    Args:
        function: acts on each row separately.
        tensors: (rows, ...) each.
        width: numbers per row in the widest intermediate tensor.

    Returns:
        function(*tensors), (rows, ...).

    Example:
        >>> in_chunks(torch.exp, torch.zeros(3, 1), width=1 << 20).shape
        torch.Size([3, 1])
    """
    rows = max(CHUNK // width, 1)
    first = tensors[0]
    if is_compiling() or first.device.type != 'cpu' or first.shape[0] <= rows:
        return function(*tensors)
    chunks = zip(*(tensor.split(rows) for tensor in tensors))
    return torch.cat([checkpoint(function, *chunk, use_reentrant=False) for chunk in chunks])
