"""A short console before the first iteration; the log file keeps everything."""

from __future__ import annotations

import logging
from collections.abc import Callable

LONG = 10  # lines; a report on loaded weights is shorter, a config is longer
# Functions that log the libraries' notes: mmengine's `print_log`, and its runner's on SyncBN.
NOTES = ('print_log', 'wrap_model')


def shorten(logger: logging.Logger, starting: Callable[[], bool]) -> None:
    """Keep long records and notes off the console while a run starts; name the log file.

    With `logging.captureWarnings`, as in `mmca train`, Python's warnings go to the log file, too.

    Args:
        logger: the runner's; only the main process has a log file.
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
