"""Errors and warnings about mistakes that the user can fix."""

import os
import sys


class InputError(ValueError):
    """Bad input: a wrong name, shape, path or file.

    The message is one line that states the value and how to fix it. The commands print it without a
    traceback and exit with status 2.
    """


def warn(text: str) -> None:
    """Print a warning on stderr, as :func:`print_line`."""
    print_line('warning', text)


def print_line(kind: str, text: str) -> None:
    """Print 'KIND: text' on stderr in one line; on a terminal in color, broken after each ';'.

    NO_COLOR in the environment turns the color off, see no-color.org.

    Args:
        kind: 'error' or 'warning'.
        text: without line breaks.
    """
    label = f'{kind}:'
    if sys.stderr.isatty():
        text = text.replace('; ', ';\n  ')
        if os.name == 'posix' and not os.environ.get('NO_COLOR'):
            label = f'\033[1;{31 if kind == "error" else 33}m{label}\033[0m'
    print(label, text, file=sys.stderr, flush=True)
