"""Learning curves from the logs that mmengine writes to a work dir."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mmca.errors import InputError

COLUMNS = 2


def read_scalars(work: Path) -> list[dict]:
    """Read the logs in a work dir, one entry for each iteration and kind, in order.

    Returns:
        The entries; 'step' is the number of finished iterations. Training entries have 'loss',
        validation entries have the metrics.

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
                raise InputError(f'{file}, line {number}: not a log entry: {error}') from error
            # The step of a validation is an epoch's number in many configs.
            step = entry['step'] = entry.get('iter', step)
            entries[step, 'loss' in entry] = entry
    return [entries[key] for key in sorted(entries, key=lambda key: (key[0], not key[1]))]


def plot_curves(logs: Mapping[str, Sequence[dict]], keys: Sequence[str], out: str) -> None:
    """Plot one panel per key and one curve per work dir, from :func:`read_scalars`, to a file."""
    rows, columns = -(-len(keys) // COLUMNS), min(COLUMNS, len(keys))
    figure = Figure(figsize=(6 * columns, 4 * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, key in zip(axes.flat, keys):
        for folder, log in logs.items():
            points = [(entry['step'], entry[key]) for entry in log if key in entry]
            marker = 'o' if len(points) <= 30 else None  # validations are few
            if points:
                axis.plot(*zip(*points), marker=marker, label=Path(folder).name)
        axis.set(xlabel='iterations', title=key)
        axis.grid(alpha=0.3)
        axis.legend(fontsize='small')
    for axis in axes.flat[len(keys) :]:
        axis.remove()
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise InputError(f'cannot write {out}: {error}') from error
