"""Functions that torch.compile calls as they are."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from mmca.ops.precision import without_autocast

# torch 2.6 cannot tell exporting from compiling: there, both trace.
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)


def opaque(function: Callable) -> Callable:
    """A decorator: torch.compile puts a call of the function into its graph, not what it does.

    Inductor compiles neither transforms nor complex products; traced, they would run in the
    'eager' form with a copy for every write in place. Called, they take the form that
    `mmca.ops.backend` chooses, and no time to compile. Everywhere else nothing changes: eager
    mode calls the function itself, and torch.export traces it, so that its files need no mmca.

    Args:
        function: of tensors, the first without a gradient, and numbers; its annotations are its
            schema. It returns new, contiguous tensors. Autograd does not see what it does: call
            it in a `torch.autograd.Function`.

    Returns:
        A function with the same arguments and results.

    Example:
        >>> @opaque
        ... def twice(x: torch.Tensor) -> torch.Tensor:
        ...     return x + x
        >>> torch.compile(twice, backend='eager')(torch.ones(1))
        tensor([2.])
    """

    @wraps(function)
    def run(*args: Tensor | int | bool) -> Tensor | tuple[Tensor, ...]:
        with without_autocast(args[0].device):  # which may surround a compiled graph
            return function(*args)

    op = torch.library.custom_op(f'mmca::{function.__name__.strip("_")}', run, mutates_args=())
    op.register_fake(run)

    @wraps(function)
    def call(*args: Tensor | int | bool) -> Tensor | tuple[Tensor, ...]:
        if torch.compiler.is_compiling() and not _is_exporting():
            return op(*args)
        return function(*args)

    return call
