"""A short console before the first iteration; the log file keeps everything.

Config, environment, hooks, one line per parameter and the libraries' notes would push the lines
that a user has to read off the screen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

LONG = 10  # lines; a report on loaded weights is shorter, a config is longer
# Functions whose records are notes of the libraries: mmengine's `print_log`, which they all call,
# and the runner's on SyncBN.
NOTES = ('print_log', 'wrap_model')


def shorten(logger: logging.Logger, starting: Callable[[], bool]) -> None:
    """Keep long records and notes off the console while a run starts; name the log file.

    Python's warnings follow to the log file where `logging.captureWarnings` is on, as in
    `mmca train`.

    Args:
        logger: the runner's, with a handler for the console and, in the main process, one for
            the log file.
        starting: whether the first iteration is yet to begin.
    """

    def shown(record: logging.LogRecord) -> bool:
        short = record.funcName not in NOTES and record.getMessage().count('\n') < LONG
        return short or record.levelno >= logging.ERROR or not starting()

    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # mmengine's own handler drops a second warning of one format.
            warnings = logging.FileHandler(handler.baseFilename, delay=True)
            logging.getLogger('py.warnings').addHandler(warnings)
            logger.info(f'log file, with config, environment and hooks: {handler.baseFilename}')
        else:
            handler.addFilter(shown)
