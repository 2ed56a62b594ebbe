"""The results of configs/camvid and configs/penn_fudan, in their metafiles."""

import json
from collections.abc import Iterator
from pathlib import Path

from experiments.rows import TABLES

TASKS = {
    'camvid': ('Semantic Segmentation', 'CamVid'),
    'penn_fudan': ('Instance Segmentation', 'Penn-Fudan'),
}


def write_results(results: Path, configs: Path) -> None:
    """Replace the results of every model by those of the logs.

    Args:
        results: the logs.
        configs: the folder of the shipped configs.
    """
    import yaml

    for folder in TASKS:
        file = configs / folder / 'metafile.yml'
        lines: list[str] = []
        for line in file.read_text().splitlines():
            if line.startswith('    Results:'):
                continue
            if lines and lines[-1].startswith('    Config: ') and line.startswith('      '):
                continue  # below the results that were there
            lines.append(line)
        text = ''
        for line in lines:
            text += f'{line}\n'
            if line.startswith('    Config: '):
                config = line.partition('configs/')[2].removesuffix('.py')
                if runs := list(_runs(results, config)):
                    dumped = yaml.safe_dump({'Results': runs}, sort_keys=False, width=10**6)
                    text += ''.join(f'    {entry}\n' for entry in _indented(dumped))
        file.write_text(text)


def _indented(dumped: str) -> Iterator[str]:
    """The lines of a list under a key, two spaces in, as metafiles have them."""
    head, *entries = dumped.splitlines()
    yield head
    yield from (f'  {entry}' for entry in entries)


def _runs(results: Path, config: str) -> Iterator[dict]:
    """The runs of a config, as entries of its metafile."""
    task, dataset = TASKS[config.partition('/')[0]]
    for table in TABLES.values():
        for row in table.rows:
            if row.config != config:
                continue
            for file in sorted((results / table.name).glob(f'{row.name}_seed*.json')):
                run = json.loads(file.read_text())
                yield {
                    'Task': task,
                    'Dataset': dataset,
                    'Source': 'mmca',
                    'Model': row.label,
                    'Metrics': {
                        name: [entry[key] for entry in run['log'] if key in entry][-1]
                        for key, name in table.metrics.items()
                    },
                    'Command': run['command'],
                    'Log': f'docs/results/{table.name}/{file.name}',
                    'SHA256': run['sha256'],
                }
