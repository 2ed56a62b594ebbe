"""Functions that torch.compile calls instead of tracing them."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from mmca.ops.precision import without_autocast

# torch 2.6 cannot distinguish exporting from compiling: there, both trace.
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)


def opaque(function: Callable) -> Callable:
    """A decorator that registers a function as an operator, to be called by :func:`as_node`.

    Inductor compiles neither Fourier transforms nor complex products. Traced, they run with a copy
    for every write in place and take time to compile: a compiled step of CA-PVT takes 1.27 times
    as long.

    Args:
        function: of tensors, the first without a gradient, and numbers; its annotations are its
            schema. It returns new, contiguous tensors. Autograd does not see what it does: call
            it in a `torch.autograd.Function`.

    Returns:
        The function.

    Example:
        >>> @opaque
        ... def twice(x: torch.Tensor) -> torch.Tensor:
        ...     return x + x
        >>> torch.compile(lambda x: as_node(twice)(x), backend='eager')(torch.ones(1))
        tensor([2.])
    """

    @wraps(function)
    def run(*args: Tensor | int | bool | None) -> Tensor | tuple[Tensor, ...]:
        with without_autocast(args[0].device):  # autocast may surround a compiled graph
            return function(*args)

    op = torch.library.custom_op(f'mmca::{function.__name__.strip("_")}', run, mutates_args=())
    op.register_fake(run)
    function.node = op
    return function


def as_node(function: Callable) -> Callable:
    """The operator of an :func:`opaque` function under torch.compile, else the function itself.

    torch.export traces the function, so that its files do not need mmca.
    """
    compiling = torch.compiler.is_compiling() and not _is_exporting()
    return function.node if compiling else function
