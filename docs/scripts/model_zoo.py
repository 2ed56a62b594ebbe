"""Write docs/model_zoo.md from the metafiles of configs/ and the logs of docs/results.

Run `python docs/scripts/model_zoo.py` after a change of either.
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
RESULTS = ROOT / 'docs/results'
# Folder of configs -> heading, and the image size for multiply-adds.
FOLDERS = {
    'coco': ('COCO 2017', '1280 x 800'),
    'ade20k': ('ADE20K', '2048 x 512'),
    'camvid': ('CamVid', '320 x 240'),
    'penn_fudan': ('Penn-Fudan', '400 x 300'),
    'imagenet': ('ImageNet-1k', '224 x 224'),
    'mini': ('Synthetic data set', '160 x 128, of the classifier 64 x 64'),
}
HEAD = """\
# Model zoo

Every config trains with this command, where CONFIG is a name from the tables:

    mmca train CONFIG

Unless you train with the recipe's number of images a step, scale the learning rate:
[Flags](train_and_test.md#flags).

A figure under *paper* is the paper's; it has not been reproduced here. A figure under *ours* was
measured with this code: [Runs](#runs) has its command, its log and the SHA-256 of its checkpoint.
An empty cell means that we know of no published figure, or have not trained this config. We publish
no weights; [Weights](weights.md) lists the third-party files that fit. Multiply-adds are ours: they
include the DFTs, and `mmca flops CONFIG` counts them again. They agree with the published ones
within 1 % but for FLatten-PVT-T, whose paper has 244 G for Mask R-CNN and 169 G for Semantic FPN.
With linear attention in all stages, as in its released classifier, we count 212 and 128 G, in the
first two alone 218 and 135 G, and for the softmax original 240 and 158 G, as published.

`python docs/scripts/model_zoo.py` writes this page from the metafiles in `configs/` and the logs in
`docs/results/`.
"""


def page() -> str:
    """The whole page."""
    runs = [run for run in find_runs(RESULTS) if run.row.table is None]
    parts = [HEAD, *(section(folder, runs) for folder in FOLDERS), runs_section(runs)]
    return '\n'.join(parts)


def section(folder: str, runs: Sequence[Run]) -> str:
    """The table of one data set: one row per config, or one per way it was trained here."""
    models = yaml.safe_load((ROOT / 'configs' / folder / 'metafile.yml').read_text())['Models']
    heading, size = FOLDERS[folder]
    own = [r for r in runs if r.row.config.startswith(f'{folder}/') and not other_model(r)]
    published = [name for model in models for name in paper(model)]
    metrics = list(dict.fromkeys([*published, *(name for run in own for name in run.metrics)]))
    heads = ['config', 'model', 'params M', 'GMACs', 'schedule']
    heads += [f'{name} {whose}' for name in metrics for whose in ('*paper*', '*ours*')]
    rows = []
    for model in models:
        config = model['Config'].removeprefix('configs/').removesuffix('.py')
        here: dict[str, list[Run]] = {}
        for run in own:
            if run.row.config == config:
                here.setdefault(run.row.label, []).append(run)
        for label, group in here.items() or [(', '.join(model['Metadata']['Architecture']), [])]:
            options = group[0].row.options if group else ()
            rows.append([f'`{config}`', label, *costs(model['Metadata'], options)])
            for name in metrics:
                rows[-1].append(f'{paper(model)[name]}' if name in paper(model) else '')
                rows[-1].append(spread([run.metrics[name] for run in group]))
    about = f'Multiply-adds at {size}.'
    lines = [f'## {heading}', '', about, '', '<div class="zoo" markdown>', '']
    return '\n'.join([*lines, *table(heads, rows), '</div>', ''])


def paper(model: Mapping) -> dict[str, float]:
    """The metrics that a metafile takes from a paper."""
    found = (r['Metrics'] for r in model.get('Results', ()) if r['Source'] == 'paper')
    return {name: value for metrics in found for name, value in metrics.items()}


def other_model(run: Run) -> bool:
    """Whether a run changed the model of its config."""
    return any(option.startswith('model.') for option in run.row.options)


def costs(metadata: Mapping, options: Sequence[str]) -> list[str]:
    """Parameters, multiply-adds and schedule; options may change them."""
    changed = dict(option.split('=', 1) for option in options)
    epochs = changed.get('train_cfg.max_epochs', metadata.get('Epochs'))
    iterations = changed.get('train_cfg.max_iters', metadata.get('Iterations'))
    schedule = f'{int(iterations):,} iterations' if epochs is None else f'{epochs} epochs'
    for key, value in changed.items():
        if key == 'train_dataloader.batch_size':
            schedule += f' of {value} images'
        if key.startswith('test_') and key.endswith('.scale'):
            schedule += ' at {} x {}'.format(*value.strip('()').split(','))
    return [f'{metadata["Parameters"] / 1e6:.2f}', f'{metadata["FLOPs"] / 1e9:.2f}', schedule]


def runs_section(runs: Sequence[Run]) -> str:
    """Every row of a table: results, logs and checkpoints of its runs, and the command."""
    parts = ['## Runs', '', 'The last iteration of each run; `deit_tiny_imagenet.pth` is DeiT-T']
    parts[-1] += ' trained on ImageNet. Commands are for seed 0, at the commit in the log;'
    parts[-1] += ' others differ in'
    parts[-1] += ' `randomness.seed`. [Results](results/README.md) compares the rows.'
    for row, group in groupby(runs, key=lambda run: run.row):
        group = list(group)
        parts += ['', f'**`{row.config}`, {row.label}**', '']
        for run in group:
            figures = ', '.join(f'{name} {value:.4g}' for name, value in run.metrics.items())
            record, log = run.record, run.file.relative_to(PAGE.parent).as_posix()
            parts.append(f'- seed {run.seed}: {figures}; {record["date"]}, {record["machine"]}, ')
            parts[-1] += f'torch {record["torch"]}; [log]({log}); SHA-256 `{record["sha256"][:16]}`'
        parts += ['', f'        {group[0].record["command"]}']
    return '\n'.join([*parts, ''])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f'| {" | ".join(cells)} |' for cells in (heads, ['---'] * len(heads), *rows)] + ['']


if __name__ == '__main__':
    PAGE.write_text(page())
