"""The results of configs/camvid and configs/penn_fudan, in their metafiles."""

from collections.abc import Iterator
from pathlib import Path

from experiments.logs import Run, find_runs

TASKS = {
    'camvid': ('Semantic Segmentation', 'CamVid'),
    'penn_fudan': ('Instance Segmentation', 'Penn-Fudan'),
}


def write_results(results: Path, configs: Path) -> None:
    """Replace the results of every model in a folder of configs by those in the logs."""
    import yaml

    runs = [run for run in find_runs(results) if run.row.table is None]
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
                if own := [_entry(run) for run in runs if run.row.config == config]:
                    dumped = yaml.safe_dump({'Results': own}, sort_keys=False, width=10**6)
                    text += ''.join(f'    {entry}\n' for entry in _indented(dumped))
        file.write_text(text)


def _indented(dumped: str) -> Iterator[str]:
    """The lines of a list under a key, two spaces in, as metafiles have them."""
    head, *entries = dumped.splitlines()
    yield head
    yield from (f'  {entry}' for entry in entries)


def _entry(run: Run) -> dict:
    """A run as an entry of its config's metafile."""
    task, dataset = TASKS[run.row.config.partition('/')[0]]
    return {
        'Task': task,
        'Dataset': dataset,
        'Source': 'mmca',
        'Model': run.row.label,
        'Metrics': run.metrics,
        'Command': run.record['command'],
        'Log': f'docs/results/{run.table.name}/{run.file.name}',
        'SHA256': run.record['sha256'],
    }
