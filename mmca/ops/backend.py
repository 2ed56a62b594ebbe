"""Which implementation of the ops runs: the one place that decides, logs and refuses.

- 'eager': torch operators on any device. What torch.compile and exports trace.
- 'cpu': torch operators arranged for a CPU: chunks that stay in its cache, norms that keep the
  memory layout, small transforms as matrix products. The default on CPUs.
- 'triton': 'eager', with Triton kernels between the transforms and products of circulant
  attention. Nobody has timed them, so they have to be asked for.

The environment variable MMCA_BACKEND or :func:`set_backend` asks for one. Where an implementation
has no special form for given inputs (a dtype, a mask, a hidden layer of one chunk), its op takes
the eager form.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import Parameter

from mmca.errors import InputError

BACKENDS = ('eager', 'cpu', 'triton')
VARIABLE = 'MMCA_BACKEND'
logger = logging.getLogger('mmca')
_asked: str | None = None
_logged: set[tuple[str, str]] = set()


def set_backend(name: str | None) -> None:
    """Ask for an implementation, for the whole process.

    Args:
        name: one of `BACKENDS`; None leaves the choice to MMCA_BACKEND, and without it to the
            device.

    Raises:
        InputError: unknown name.

    Example:
        >>> import torch
        >>> from mmca.ops import choose_backend, set_backend
        >>> set_backend('eager')
        >>> choose_backend(torch.zeros(1))
        'eager'
        >>> set_backend(None)
    """
    global _asked
    if name is not None:
        _check_name(name, 'set_backend')
    _asked = name


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """A context with another implementation, see :func:`set_backend`.

    Example:
        >>> import torch
        >>> with use_backend('eager'):
        ...     choose_backend(torch.zeros(1))
        'eager'
    """
    previous = _asked
    set_backend(name)
    try:
        yield
    finally:
        set_backend(previous)


def choose_backend(x: Tensor) -> str:
    """The implementation for a tensor; the first choice for a device is logged.

    Args:
        x: an input of the op.

    Returns:
        One of `BACKENDS`. While torch.compile or torch.export trace, for tensors without data,
        and for subclasses of Tensor, always 'eager'.

    Raises:
        InputError: what was asked for by name cannot run here.

    Example:
        >>> choose_backend(torch.zeros(1, device='meta'))
        'eager'
    """
    kind = x.device.type
    if torch.compiler.is_compiling() or kind == 'meta' or type(x) not in (Tensor, Parameter):
        return 'eager'
    asked = _asked or os.environ.get(VARIABLE)
    if asked is None:
        name, source = 'cpu' if kind == 'cpu' else 'eager', 'default'
    else:
        name, source = asked, VARIABLE if _asked is None else 'set_backend'
        _check_name(name, source)
        _check_device(name, source, kind)
    if (name, kind) not in _logged:
        _logged.add((name, kind))
        logger.info('backend of the ops on %s: %s (%s)', kind, name, source)
    return name


def _check_name(name: str, source: str) -> None:
    if name not in BACKENDS:
        raise InputError(f'{source}: unknown backend {name!r}; known are {", ".join(BACKENDS)}')


def _check_device(name: str, source: str, kind: str) -> None:
    if name == 'cpu' and kind != 'cpu':
        raise InputError(f"{source}: the backend 'cpu' needs CPU tensors, got one on {kind}")
    if name == 'triton':
        if find_spec('triton') is None:
            raise InputError(f"{source}: the backend 'triton' needs Triton: pip install triton")
        needed = 'cpu' if os.environ.get('TRITON_INTERPRET') == '1' else 'cuda'
        if kind != needed:
            raise InputError(
                f"{source}: the backend 'triton' needs {needed} tensors here, got one on {kind}"
            )
