"""How mmca talks about what the user can fix: one exception, one kind of warning."""

import sys


class InputError(ValueError):
    """Bad input: a wrong name, shape, path or file.

    The message is one line that names the value and what to do about it; the commands print it
    without a traceback and exit with status 2.
    """


def warn(text: str) -> None:
    """Print a warning on stderr, in one line."""
    print(f'warning: {text}', file=sys.stderr, flush=True)
