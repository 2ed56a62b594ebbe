"""The switch between the two forms of circulant attention.

- 'fused': spectra are projected jointly, the backward pass is written out. The default.
- 'eager': :func:`mmca.ops.circulant_attention_reference`, to compare with, and for gradients of
  higher order.

The environment variable MMCA_BACKEND or :func:`use_backend` selects one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmca.errors import InputError

BACKENDS = ('fused', 'eager')
VARIABLE = 'MMCA_BACKEND'
_selected = os.environ.get(VARIABLE) or BACKENDS[0]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """A context in which ops run in one form.

    Args:
        name: one of `BACKENDS`.

    Example:
        >>> with use_backend('eager'):
        ...     choose_backend()
        'eager'
    """
    global _selected
    previous, _selected = _selected, name
    try:
        yield
    finally:
        _selected = previous


def choose_backend() -> str:
    """The selected form, one of `BACKENDS`.

    Raises:
        InputError: unknown name.

    Example:
        >>> choose_backend()
        'fused'
    """
    if _selected not in BACKENDS:
        known = ' or '.join(BACKENDS)
        raise InputError(f'unknown backend {_selected!r}: set {VARIABLE} to {known}')
    return _selected
