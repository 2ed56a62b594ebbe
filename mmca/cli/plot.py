"""Plot learning curves of one or more runs.

The command reads the logs in work dirs. A resumed run becomes one curve.
"""

import argparse
from pathlib import Path

from mmca.errors import InputError

REQUIRES = ('matplotlib',)
EPILOG = """\
examples:
  %(prog)s work_dirs/fruits
  %(prog)s work_dirs/fruits work_dirs/fruits_pretrained --out curves.png
  %(prog)s work_dirs/fruits --keys loss lr coco/bbox_mAP"""
DEFAULTS = ('loss', 'coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1', 'mean/error')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('work_dirs', nargs='+', metavar='WORK_DIR', help='work dir of a training run')
    add('--out', default='curves.png', help='output file, .png, .pdf or .svg; default curves.png')
    add('--keys', nargs='+', metavar='KEY', help='metrics to plot; default: loss and main metrics')


def run(args: argparse.Namespace) -> int:
    from mmca.analysis.logs import plot_curves, read_scalars

    logs = {folder: read_scalars(Path(folder)) for folder in args.work_dirs}
    for folder, log in logs.items():
        if not log:
            raise InputError(f'no training log in {folder}; pass the work dir of a run')
    entries = [entry for log in logs.values() for entry in log]
    known = {key for e in entries for key, value in e.items() if isinstance(value, (int, float))}
    keys = args.keys or [key for key in DEFAULTS if key in known] or ['loss']
    for key in keys:
        if key not in known:
            raise InputError(f'no log has {key}; choose --keys from {", ".join(sorted(known))}')
    plot_curves(logs, keys, args.out)
    for folder, log in logs.items():
        last = [(key, [entry[key] for entry in log if key in entry][-1:]) for key in keys]
        figures = ', '.join(f'{key} {value[0]:.4g}' for key, value in last if value)
        print(f'{folder}: {log[-1]["step"]} iterations, final {figures}')
    print(f'wrote {args.out}')
    return 0
