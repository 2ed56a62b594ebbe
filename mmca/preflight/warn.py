"""Warnings of the checks."""

import sys


def warn(message: str) -> None:
    """Print one line on stderr about what looks wrong and need not be."""
    print(f'warning: {message}', file=sys.stderr, flush=True)
