"""Python code of a config's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WIDTH = 100


class Name(str):
    """Code that stands as it is, such as the name of a variable."""


def assign(name: str, value: Any) -> str:
    """One assignment.

    Args:
        name: of the variable.
        value: dicts with text as keys, lists, tuples, :class:`Name`, and what has a repr.

    Returns:
        Code in lines of at most 100 characters where the values allow it.

    Example:
        >>> print(assign('head', {'type': Name('kind'), 'sizes': (3, 5)}))
        head = dict(type=kind, sizes=(3, 5))
    """
    return f'{name} = {_code(value, 0, len(name) + 3)}'


def _code(value: Any, indent: int, column: int) -> str:
    """The code of a value that begins in a column of a line with an indent."""
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, Mapping):
        start, end, items = 'dict(', ')', [(f'{key}=', item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        start, end = '[]' if isinstance(value, list) else '()'
        items = [('', item) for item in value]
    else:
        return repr(value)
    flat = ', '.join(key + _code(item, 0, -(10**9)) for key, item in items)
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    if column + len(start + flat + comma + end) < WIDTH:
        return f'{start}{flat}{comma}{end}'
    inner = indent + 4
    lines = [
        f'{" " * inner}{key}{_code(item, inner, inner + len(key) + 1)},' for key, item in items
    ]
    return '\n'.join([start, *lines, f'{" " * indent}{end}'])
