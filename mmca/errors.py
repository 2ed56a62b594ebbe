"""The one exception for user-fixable errors."""


class InputError(ValueError):
    """Bad input: a wrong name, shape, path or file.

    The message is one line that names the value and what to do about it; the commands print it
    without a traceback and exit with status 2.
    """
