"""The logs that runs left in docs/results."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.rows import TABLES, Row, Table


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        table, row: its place.
        seed: the random seed.
        file: its log.
        record: the log's content.
    """

    table: Table
    row: Row
    seed: str
    file: Path
    record: dict

    @property
    def metrics(self) -> dict[str, float]:
        """Heading -> figure after the last iteration, in percent."""
        return {
            name: [percent(key, entry[key]) for entry in self.record['log'] if key in entry][-1]
            for key, name in self.table.metrics.items()
        }


def percent(key: str, value: float) -> float:
    """A figure of the log in percent: AP is logged as a fraction, mIoU in percent."""
    return round(100 * value, 2) if key.startswith('coco/') else value


def find_runs(results: Path) -> Iterator[Run]:
    """All runs in a folder of logs, in the order of tables, rows and seeds."""
    for table in TABLES.values():
        for row in table.rows:
            folder = results / (row.table or table.name)
            for file in sorted(folder.glob(f'{row.name}_seed*.json')):
                seed = file.stem.rpartition('_seed')[2]
                yield Run(table, row, seed, file, json.loads(file.read_text()))


def spread(values: Sequence[float]) -> str:
    """The mean of some figures, with the smallest and the largest; '' without figures."""
    if not values:
        return ''
    mean, low, high = (f'{f(values):#.3g}' for f in (statistics.mean, min, max))
    return mean if len(values) == 1 else f'{mean} ({low} to {high})'
