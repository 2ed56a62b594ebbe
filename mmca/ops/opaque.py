"""Functions that torch.compile calls instead of tracing them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mmca.ops.compat import HAS_NODES, is_compiling, is_exporting


def opaque(function: Callable) -> Callable:
    """A decorator that registers a function as an operator, to be called by :func:`as_node`.

    Inductor compiles neither FFTs nor complex products. If traced, they take time to compile and
    run with a copy for every in-place write: a compiled step of CA-PVT takes 1.27 times as long.

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
    if HAS_NODES:
        name = f'mmca::{function.__name__.strip("_")}'
        function.node = torch.library.custom_op(name, function, mutates_args=())
        function.node.register_fake(function)
    return function


def as_node(function: Callable) -> Callable:
    """The operator of an :func:`opaque` function under torch.compile, else the function itself.

    torch.export traces the function, so that its files do not need mmca. So does torch.compile
    before torch 2.7.
    """
    return function.node if is_compiling() and not is_exporting() else function
