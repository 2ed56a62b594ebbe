"""Write docs/model_zoo.md and docs/runs.md from the metafiles of configs/ and docs/results.

Run `python docs/scripts/model_zoo.py` after changing either.
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments.logs import Run, find_runs, spread  # noqa: E402

PAGE = ROOT / 'docs/model_zoo.md'
RUNS = ROOT / 'docs/runs.md'
RESULTS = ROOT / 'docs/results'
# Folder of configs -> heading, and the image size for multiply-adds.
FOLDERS = {
    'coco': ('COCO 2017', '1280 x 800'),
    'ade20k': ('ADE20K', '2048 x 512'),
    'camvid': ('CamVid', '320 x 240'),
    'penn_fudan': ('Penn-Fudan', '400 x 300, or at the size in the row'),
    'imagenet': ('ImageNet-1k', '224 x 224'),
    'mini': ('Synthetic data set', '160 x 128 (classifier: 64 x 64)'),
}
HEAD = """\
# Model zoo

Train any config by its name in the tables:

    mmca train CONFIG

If your total batch size differs from the recipe's, scale the learning rate
([Flags](train_and_test.md#flags)).

- **Accuracy** is in percent. *paper* marks published figures, which we have not reproduced. A cell
  is empty if we know of no published figure. *ours* marks models that we trained: the mean over
  seeds, with the range in parentheses. [Runs](runs.md) lists commands, logs and checkpoints.
- **Weights**: we do not publish weights. [Weights](weights.md) lists compatible third-party files.
- **GMACs** (billions of multiply-adds) are our own counts and include DFTs (`mmca flops CONFIG`).
  They agree with published counts within 1 %, except for FLatten-PVT-T: we count 212 GMACs with
  Mask R-CNN (published: 244) and 128 with Semantic FPN (published: 169, which is
  our count for FLatten-PVT-S). The stages that the published models used are not known.
"""
RUNS_HEAD = """\
# Runs

This page lists the runs behind the [model zoo](model_zoo.md) and [Results](results/README.md), with
accuracy after the last iteration, date, machine, log, and SHA-256 of the checkpoint. Each command
is for seed 0, at the commit that the log states. For other seeds, change `randomness.seed`.
`deit_tiny_imagenet.pth` is DeiT-T trained on ImageNet.
"""


def pages() -> dict[Path, str]:
    """Both pages."""
    runs = [run for run in find_runs(RESULTS) if run.row.table is None]
    zoo = [HEAD, *(section(folder, runs) for folder in FOLDERS)]
    return {PAGE: '\n'.join(zoo), RUNS: runs_page(runs)}


def section(folder: str, runs: Sequence[Run]) -> str:
    """The table of one data set: one row per config, or one per way it was trained here."""
    models = yaml.safe_load((ROOT / 'configs' / folder / 'metafile.yml').read_text())['Models']
    heading, size = FOLDERS[folder]
    own = [r for r in runs if r.row.config.startswith(f'{folder}/') and not other_model(r)]
    published = [name for model in models for name in paper(model)]
    metrics = list(dict.fromkeys([*published, *(name for run in own for name in run.metrics)]))
    heads = ['config', 'model', 'params M', 'GMACs', 'schedule']
    names = [name.replace('Top 1 Accuracy', 'top-1') for name in metrics]
    heads += [f'{name} {whose}' for name in names for whose in ('*paper*', '*ours*')]
    rows = []
    for model in models:
        config = model['Config'].removeprefix('configs/').removesuffix('.py')
        here: dict[str, list[Run]] = {}
        for run in own:
            if run.row.config == config:
                here.setdefault(run.row.label, []).append(run)
        for label, group in here.items() or [(', '.join(model['Metadata']['Architecture']), [])]:
            rows.append([f'`{config}`', label, *costs(model['Metadata'], group)])
            for name in metrics:
                rows[-1].append(f'{paper(model)[name]}' if name in paper(model) else '')
                rows[-1].append(spread([run.metrics[name] for run in group]))
    filled = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    heads, *rows = ([cells[i] for i in filled] for cells in (heads, *rows))
    about = f'GMACs are counted at {size}.'
    lines = [f'## {heading}', '', about, '', '<div class="zoo" markdown>', '']
    return '\n'.join([*lines, *table(heads, rows), '</div>', ''])


def paper(model: Mapping) -> dict[str, float]:
    """The metrics that a metafile takes from a paper."""
    found = (r['Metrics'] for r in model.get('Results', ()) if r['Source'] == 'paper')
    return {name: value for metrics in found for name, value in metrics.items()}


def other_model(run: Run) -> bool:
    """Whether a run changed the model of its config."""
    return any(option.startswith('model.') for option in run.row.options)


def costs(metadata: Mapping, group: Sequence[Run]) -> list[str]:
    """Parameters, multiply-adds and schedule of a config, or as runs that changed it had them."""
    changed = dict(o.split('=', 1) for o in (group[0].row.options if group else ()))
    epochs = changed.get('train_cfg.max_epochs', metadata.get('Epochs'))
    iterations = changed.get('train_cfg.max_iters', metadata.get('Iterations'))
    schedule = f'{int(iterations):,} iterations' if epochs is None else f'{epochs} epochs'
    for key, value in changed.items():
        if key == 'train_dataloader.batch_size':
            schedule += f' of {value} images'
        if key.startswith('test_') and key.endswith('.scale'):
            schedule += ' at {} x {}'.format(*value.strip('()').split(','))
    sizes = [f'{metadata["Parameters"] / 1e6:.2f}', f'{metadata["FLOPs"] / 1e9:.2f}']
    return [*(reported(group[0]) if group else sizes), schedule]


def reported(run: Run) -> list[str]:
    """Parameters and multiply-adds of a run's model at the size it was trained at, from Results."""
    section = (RESULTS / 'README.md').read_text().split(f'## {run.table.title}\n')[1]
    lines = [line.strip('| ').split(' | ') for line in section.splitlines() if line[:1] == '|']
    columns = [lines[0].index(head) for head in ('parameters M', 'GMACs')]
    cells = next(line for line in lines if line[0] == run.row.label)
    return [cells[column] for column in columns]


def runs_page(runs: Sequence[Run]) -> str:
    """Every row of a table: results, logs and checkpoints of its runs, and the command."""
    parts = [RUNS_HEAD]
    for table, rows in groupby(runs, key=lambda run: run.table):
        parts += [f'## {table.title}', '']
        for row, group in groupby(rows, key=lambda run: run.row):
            group = list(group)
            parts += [f'**`{row.config}`, {row.label}**', '']
            for run in group:
                figures = ', '.join(f'{name} {value:.4g}' for name, value in run.metrics.items())
                record, log = run.record, run.file.relative_to(PAGE.parent).as_posix()
                parts.append(f'- seed {run.seed}: {figures}; {record["date"]}, ')
                parts[-1] += f'{record["machine"]}, torch {record["torch"]}; [log]({log}); '
                parts[-1] += f'SHA-256 `{record["sha256"][:16]}`'
            parts += ['', f'        {group[0].record["command"]}', '']
    return '\n'.join(parts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f'| {" | ".join(cells)} |' for cells in (heads, ['---'] * len(heads), *rows)] + ['']


if __name__ == '__main__':
    for path, text in pages().items():
        path.write_text(text)
