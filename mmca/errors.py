"""The one exception for input that the user can mend."""


class InputError(ValueError):
    """Bad input: a wrong name, shape, path or file.

    The message is one line that names the value and what to do about it; `tools/` prints it
    without a traceback.
    """
