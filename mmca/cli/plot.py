"""Plot the learning curves of trainings.

Loss and metrics over iterations, from the logs in work dirs; a run that was resumed is one curve.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmca.errors import InputError

REQUIRES = ('matplotlib',)
EPILOG = """\
examples:
  %(prog)s work_dirs/fruits
  %(prog)s work_dirs/fruits work_dirs/fruits_pretrained --out curves.png
  %(prog)s work_dirs/fruits --keys loss lr coco/bbox_mAP"""
METRICS = ('coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1')
COLUMNS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='what --work-dir was')
    parser.add_argument(
        '--out', default='curves.png', help='.png, .pdf or .svg; default curves.png'
    )
    parser.add_argument(
        '--keys', nargs='+', metavar='KEY', help='what to plot; default the loss and main metrics'
    )


def run(args: argparse.Namespace) -> int:
    """Plot; returns the exit code."""
    from mmca.analysis.logs import read_scalars

    logs = {}
    for folder in args.work_dirs:
        logs[folder] = read_scalars(Path(folder))
        if not logs[folder]:
            raise InputError(
                f'{folder} has no log of a training: name a work dir, such as work_dirs/CONFIG'
            )
    entries = [entry for log in logs.values() for entry in log]
    known = {key for e in entries for key, value in e.items() if isinstance(value, (int, float))}
    keys = args.keys or [key for key in ('loss', *METRICS) if key in known]
    for key in keys:
        if key not in known:
            raise InputError(f'no log has {key}; known are {", ".join(sorted(known))}')
    _draw(logs, keys, Path(args.out))
    for folder, log in logs.items():
        last = [(key, [entry[key] for entry in log if key in entry][-1:]) for key in keys]
        figures = ', '.join(f'{key} {value[0]:.4g}' for key, value in last if value)
        print(f'{folder}: {log[-1]["step"]} iterations, at the end {figures}')
    print(f'wrote {args.out}')
    return 0


def _draw(logs: dict[str, list[dict]], keys: list[str], out: Path) -> None:
    """One panel a key, one curve a work dir."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    rows = -(-len(keys) // COLUMNS)
    columns = min(COLUMNS, len(keys))
    figure, axes = plt.subplots(
        rows, columns, figsize=(6 * columns, 4 * rows), layout='constrained', squeeze=False
    )
    for axis, key in zip(axes.flat, keys, strict=False):
        for folder, log in logs.items():
            points = [(entry['step'], entry[key]) for entry in log if key in entry]
            # Few points, as those of validations, are marked.
            marker = 'o' if len(points) <= 30 else None
            if points:
                axis.plot(*zip(*points, strict=True), marker=marker, label=Path(folder).name)
        axis.set(xlabel='iterations', title=key)
        axis.grid(alpha=0.3)
        axis.legend(fontsize='small')
    for axis in axes.flat[len(keys) :]:
        axis.remove()
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise InputError(f'cannot write {out}: {error}') from error
    finally:
        plt.close(figure)
