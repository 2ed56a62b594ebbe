"""What tools/benchmark.py makes of its measurements: ratios, slopes, tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import log
from pathlib import Path
from statistics import linear_regression

from benchmark_sides import MODES, summary
from peers import Case

MIB = 1 << 20


def ratios(case: Case, records: dict[str, dict]) -> list[dict]:
    """Ours over every peer.

    Args:
        case: which sides are ours.
        records: what :func:`measure` returned, with memory or without.

    Returns:
        One record a pair: of each mode median and spread of the ratios within a round, and the
        ratios of memory, None where there is none.
    """

    def of_memory(ours: dict, peer: dict, key: str) -> float | None:
        return ours[key] / peer[key] if ours.get(key) and peer.get(key) else None

    rows = []
    for ours in case.ours:
        for peer in records:
            if peer in case.ours:
                continue
            row = {'ours': ours, 'peer': peer}
            for mode in MODES:
                a, b = records[ours][mode], records[peer][mode]
                row[mode] = summary(
                    [x / y for x, y in zip(a['seconds'], b['seconds'], strict=True)]
                )
                row[f'{mode}_peak'] = of_memory(a, b, 'peak_bytes')
            row['kept'] = of_memory(a, b, 'kept_bytes')
            rows.append(row)
    return rows


def slopes(records: list[dict]) -> dict[str, dict[str, float]]:
    """Exponents of the growth of time with the number of tokens, by least squares in logarithms.

    Args:
        records: one a case, each with `tokens` and `sides`.

    Returns:
        Side -> mode -> exponent, for sides that have two sizes or more.
    """
    found = {}
    for name in records[0]['sides']:
        points = [(r['tokens'], r['sides'][name]) for r in records if name in r['sides']]
        if len({tokens for tokens, _ in points}) > 1:
            sizes = [log(tokens) for tokens, _ in points]
            found[name] = {
                mode: linear_regression(
                    sizes, [log(side[mode]['median']) for _, side in points]
                ).slope
                for mode in MODES
            }
    return found


def print_case(record: dict) -> None:
    """Print the table of one case.

    Args:
        record: of the case: its name, checks, sides, what was skipped, ratios.
    """
    print(f'\n{record["name"]}')
    for found in record['checks']:
        print(f'  {found["ours"]} = {found["peer"]} to {found["error"]:.0e}, {found["dtype"]}')
    for name, reason in record['skipped'].items():
        print(f'  no {name}: {reason}')
    names = [f'{row["ours"]} / {row["peer"]}' for row in record['ratios']]
    width = max(map(len, (*record['sides'], *names))) + 2

    def line(name: str, times: Sequence[str], memory: Sequence[str]) -> None:
        cells = [*(f'{cell:26}' for cell in times), *(f'{cell:>10}' for cell in memory)]
        print(f'  {name:{width}}{"".join(cells)}')

    line('', ('forward ms', 'step ms'), ('peak MiB', 'step MiB', 'kept MiB'))
    for name, side in record['sides'].items():
        memory = [side[mode].get('peak_bytes') for mode in MODES] + [side['step'].get('kept_bytes')]
        memory = [None if number is None else number / MIB for number in memory]
        times = [spread(side[mode], 1e3, 1) for mode in MODES]
        line(name, times, [_or_dash(number, 1) for number in memory])
    for name, side in record['sides'].items():
        for mode, kinds in side.get('profile', {}).items():
            total = sum(kinds.values())
            shares = ', '.join(f'{k} {ms:.1f} ({ms / total:.0%})' for k, ms in kinds.items())
            print(f'  {name}, {mode}, profiled ms: {shares}')
    for name, row in zip(names, record['ratios'], strict=True):
        memory = [_or_dash(row[key]) for key in ('forward_peak', 'step_peak', 'kept')]
        line(name, [spread(row[mode]) for mode in MODES], memory)


def spread(values: dict, unit: float = 1.0, digits: int = 3) -> str:
    """Median and spread in a table's cell.

    Args:
        values: of :func:`benchmark_sides.summary`.
        unit: what they are multiplied with.
        digits: after the point.

    Returns:
        'median (low..high)'.
    """
    middle, low, high = (values[key] * unit for key in ('median', 'low', 'high'))
    return f'{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})'


def _or_dash(number: float | None, digits: int = 3) -> str:
    return '-' if number is None else f'{number:.{digits}f}'


def write(report: dict, folder: Path) -> None:
    """Write a report as JSON and as a picture.

    Args:
        report: of a command.
        folder: where to; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{report["command"]}.json'
    path.write_text(json.dumps(report, indent=1) + '\n')
    plot = _plot_scaling if 'slopes' in report else _plot_ratios
    plot(report, path.with_suffix('.png'))
    print(f'\nwritten: {path}, {path.with_suffix(".png")}')


def _plot_ratios(report: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    rows = [
        (f'{case["name"]}\n{row["ours"]} / {row["peer"]}', row)
        for case in report['cases']
        for row in case['ratios']
    ][::-1]  # bars are drawn from the bottom
    figure = Figure(figsize=(9, 1.2 + 0.55 * len(rows)), layout='constrained')
    axes = figure.add_subplot()
    for i, mode in enumerate(MODES):
        middles = [row[mode]['median'] for _, row in rows]
        errors = [
            [row[mode]['median'] - row[mode]['low'] for _, row in rows],
            [row[mode]['high'] - row[mode]['median'] for _, row in rows],
        ]
        places = [place + 0.2 - 0.4 * i for place in range(len(rows))]
        axes.barh(places, middles, 0.38, xerr=errors, label=mode)
    axes.axvline(1, color='black', linewidth=0.8)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
    axes.set_xlabel('time of ours / time of the peer')
    axes.set_title(_title(report), fontsize=8)
    axes.legend()
    figure.savefig(path, dpi=120)


def _plot_scaling(report: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout='constrained')
    for axes, mode in zip(figure.subplots(1, len(MODES)), MODES, strict=True):
        for name, by_mode in report['slopes'].items():
            cases = [case for case in report['cases'] if name in case['sides']]
            axes.loglog(
                [case['tokens'] for case in cases],
                [case['sides'][name][mode]['median'] * 1e3 for case in cases],
                marker='o',
                label=f'{name}, N^{by_mode[mode]:.2f}',
            )
        axes.set_xlabel('tokens N')
        axes.set_ylabel(f'{mode}, ms')
        axes.legend()
    figure.suptitle(_title(report), fontsize=8)
    figure.savefig(path, dpi=120)


def _title(report: dict) -> str:
    about = report['environment']
    return (
        f'{report["command"]}: {about["machine"]}, {about["device"]}, {about["dtype"]}, '
        f'threads: {about["threads"]}\n{about["versions"]}, {about["date"]}'
    )
