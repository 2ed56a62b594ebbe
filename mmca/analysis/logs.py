"""The figures that mmengine logs in a work dir."""

import json
from pathlib import Path

from mmca.errors import InputError


def read_scalars(work: Path) -> list[dict]:
    """Read the logs of a run: the last line of every iteration and kind, in order.

    Args:
        work: the work dir; a run that was resumed has several logs.

    Returns:
        The figures, with 'step', the number of iterations that came before. Entries of training
        have 'loss', those of validation have the metrics.

    Raises:
        InputError: a log is damaged.
    """
    entries: dict[tuple, dict] = {}
    step = 0
    for file in sorted(work.glob('*/vis_data/scalars.json')):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise InputError(f'{file}, line {number}, is no log: {error}') from error
            # The step of a validation is an epoch's number in many configs.
            step = entry['step'] = entry.get('iter', step)
            entries[step, 'loss' in entry] = entry
    return [entries[key] for key in sorted(entries, key=lambda key: (key[0], not key[1]))]
