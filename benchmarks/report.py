"""Ratios, tables and JSON of the measurements."""

import json
import platform
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path

import torch

import mmca
from benchmarks.cases import Case
from benchmarks.measurement import MODES, summary
from mmca.ops import choose_backend

MIB = 1 << 20


def environment(args: Namespace, argv: Sequence[str]) -> dict[str, str]:
    """Describe date, machine, precision and versions: label -> description."""
    device = str(args.device)
    if args.device.type == 'cuda':
        device += f', {torch.cuda.get_device_name(args.device)}'
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    versions = [f'torch {torch.__version__}', f'mmca {mmca.__version__}']
    for package in ('onedl-mmdetection', 'mmdet'):
        try:
            versions.append(f'{package} {metadata.version(package)}')
        except metadata.PackageNotFoundError:
            continue
    return {
        'command': ' '.join(argv),
        'date': datetime.now().astimezone().isoformat(timespec='seconds'),
        'machine': f'{platform.machine()}, {models[0] if models else platform.processor()}',
        'device': device,
        'dtype': str(args.dtype).removeprefix('torch.') + (', autocast' if args.amp else ''),
        'products': 'TF32' if torch.get_float32_matmul_precision() == 'high' else 'float32',
        'backend': choose_backend(),
        'threads': str(torch.get_num_threads()),
        'versions': ', '.join(versions),
        'rounds': f'{args.rounds} after {args.warmup} of warm-up, seed {args.seed}',
    }


def ratios(case: Case, results: dict[str, dict]) -> list[dict]:
    """Ratios of ours to every other workload.

    Returns:
        One record per pair: for each mode median and spread of the ratios within a round, and the
        ratios of memory, None if not measured.
    """

    def of_memory(ours: dict, baseline: dict, key: str) -> float | None:
        return ours[key] / baseline[key] if ours.get(key) and baseline.get(key) else None

    rows = []
    for ours in case.ours:
        for baseline in results:
            if baseline in case.ours:
                continue
            row = {'ours': ours, 'baseline': baseline}
            for mode in MODES:
                a, b = results[ours][mode], results[baseline][mode]
                pairs = zip(a['seconds'], b['seconds'], strict=True)
                row[mode] = summary([x / y for x, y in pairs])
                row[f'{mode}_peak'] = of_memory(a, b, 'peak_bytes')
            row['kept'] = of_memory(a, b, 'kept_bytes')
            rows.append(row)
    return rows


def print_case(record: dict) -> None:
    """Print the tables of one case."""
    print(f'\n{record["name"]}')
    for found in record['checks']:
        pair = f'{found["ours"]} = {found["baseline"]}'
        print(f'  {pair} to {found["error"]:.0e}, {found["dtype"]}')
    for name, reason in record['skipped'].items():
        print(f'  no {name}: {reason}')
    names = [f'{row["ours"]} / {row["baseline"]}' for row in record['ratios']]
    width = max(map(len, (*record['results'], *names))) + 2

    def line(name: str, times: Sequence[str], memory: Sequence[str]) -> None:
        cells = [*(f'{cell:28}' for cell in times), *(f'{cell:>10}' for cell in memory)]
        print(f'  {name:{width}}{"".join(cells)}')

    images = record['images']
    rates = ('images/s', 'step') if images else ()
    line('', ('forward ms', 'step ms'), ('peak MiB', 'step MiB', 'kept MiB', *rates))
    for name, result in record['results'].items():
        memory = [result[mode].get('peak_bytes') for mode in MODES]
        memory.append(result['step'].get('kept_bytes'))
        cells = [_or_dash(None if number is None else number / MIB, 1) for number in memory]
        cells += [f'{images / result[mode]["median"]:.1f}' for mode in MODES if images]
        line(name, [_spread(result[mode], 1e3, 1) for mode in MODES], cells)
    for name, result in record['results'].items():
        for mode, kinds in result.get('profile', {}).items():
            total = sum(kinds.values())
            shares = ', '.join(f'{k} {ms:.1f} ({ms / total:.0%})' for k, ms in kinds.items())
            print(f'  {name}, {mode}, profiled ms: {shares}')
    for name, row in zip(names, record['ratios'], strict=True):
        memory = [_or_dash(row[key]) for key in ('forward_peak', 'step_peak', 'kept')]
        line(name, [_spread(row[mode]) for mode in MODES], memory)


def _spread(values: dict, unit: float = 1.0, digits: int = 3) -> str:
    middle, low, high = (values[key] * unit for key in ('median', 'low', 'high'))
    return f'{middle:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})'


def _or_dash(number: float | None, digits: int = 3) -> str:
    return '-' if number is None else f'{number:.{digits}f}'


def write(report: dict, folder: Path) -> None:
    """Write a report as JSON into a folder, created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{report["command"]}.json'
    path.write_text(json.dumps(report, indent=1) + '\n')
    print(f'\nwritten: {path}')
