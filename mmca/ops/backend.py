"""Select one of the two implementations of circulant attention.

- 'fused' (default): projects the spectra jointly and has a hand-written backward pass.
- 'eager': :func:`mmca.ops.circulant_attention_reference`, for comparisons and higher-order
  gradients.

Select one with the environment variable MMCA_BACKEND or with :func:`use_backend`.
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
    """A context manager that selects an implementation.

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
    """The selected implementation, one of `BACKENDS`.

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
