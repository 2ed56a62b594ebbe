"""Repeat the results in docs: python -m experiments COMMAND.

Start a command again to resume its runs. To repeat a run, delete its log. Data sets must be in the
same place as for `mmca train`, see MMCA_DATA_ROOT.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from experiments.adapted import refused, try_adapted
from experiments.border import border_table
from experiments.metafiles import write_results
from experiments.report import SECONDS, write_report
from experiments.rows import TABLES, TRANSFERS
from experiments.run import DATA, RESULTS, ROOT, Lab, run_missing, run_transfers
from experiments.speed import time_rows
from experiments.zero_shot import count_right, labeled_images
from mmca.cli.main import guarded
from mmca.config.shipped import LIBRARIES

WORK = Path('work_dirs/experiments')


def main(argv: Sequence[str]) -> int:
    """Run one sub-command on a command line without the program's name; returns the exit code."""
    args = build_parser().parse_args(argv)

    def job() -> int:
        for line in args.job(args) or ():
            print(line, flush=True)
        return 0

    return guarded(job)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser, whose `job` takes the arguments and may return lines to print."""
    parser = argparse.ArgumentParser(
        prog='python -m experiments',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)

    def add(name: str, job: Callable, about: str) -> Callable:
        command = commands.add_parser(name, help=about)
        command.set_defaults(job=job)
        return command.add_argument

    run = add('run', _run, 'train the rows of a table that have no log yet')
    timed = add('time', _time, 'time training iterations of the rows of tables')
    for option in (run, timed):
        option('tables', nargs='+', choices=TABLES, metavar='TABLE', help=', '.join(TABLES))
        option('--rows', nargs='+', default=[], help='names of rows; default all')
    timed('--rounds', type=int, default=5, help='iterations per row; default 5')
    transfer = add('transfer', _transfer, 'distill DeiT-T, for tables and ablations')
    names = ', '.join(TRANSFERS)
    transfer('names', nargs='+', choices=TRANSFERS, metavar='NAME', help=names)
    shot = add('zero-shot', _zero_shot, 'count correctly classified ImageNet images')
    shot('attn', nargs='+', help='one letter, or one letter per block')
    shot('--every', type=int, default=1, metavar='N', help='use every N-th image')
    shot('--gains', nargs=2, type=float, metavar=('G_A', 'G_B'), help='gains of K')
    shot('--window', type=int, metavar='M', help='tokens a side of the windows of X')
    shot('--calibrate', nargs='+', default=[], metavar='DIR', help='images to calibrate on')
    for option in (run, transfer, shot):
        option('--teacher', required=True, metavar='FILE', help='DeiT-T trained on ImageNet')
    shot('--images', nargs='+', required=True, metavar='DIR', help='a folder per class')
    for option in (run, transfer):
        option('--images', nargs='+', default=[], metavar='DIR', help='images for distillation')
        option('--jobs', type=int, default=2, help='number of simultaneous runs; default 2')
        option('--work-dir', type=Path, default=WORK)
    border = add('border', _border, 'test a model on padded images, and unwrapped')
    tiles = add('tiles', _tiles, 'test a detector on tiled mosaics of test images')
    exported = add('exported', _exported, 'test a detector as an ONNX file')
    for name, option in (('border', border), ('tiles', tiles), ('exported', exported)):
        option('config')
        option('checkpoint')
        option('--work-dir', type=Path, default=WORK / name)
    border('--divisors', nargs='+', type=int, default=[32, 64, 128, 512])
    tiles('--tile', type=int, default=128, help='pixels per side; default 128')
    tiles('--overlaps', nargs='*', type=float, default=[0.0, 0.2, 0.5])
    size = {'nargs': 2, 'type': int, 'metavar': ('H', 'W')}
    tiles('--size', **size, help='of the images in a mosaic; by default, of a tile')
    tiles('--whole', action='store_true', help='use only images without objects at a border')
    tiles('--flips', action='store_true', help='use every image four times, flipped')
    exported('--size', **size, help='fix the image size')
    exported('--half', action='store_true', help='export in float16')
    for option in (border, tiles, exported):
        option('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    adapted = add('adapted', _adapted, "train the libraries' own configs for one step")
    adapted('backbones', nargs='+', help='such as ca_pvt_t')
    adapted('--all', choices=tuple(LIBRARIES), help='adapt all of its configs instead')
    adapted('--every', type=int, default=1, metavar='N', help='use every N-th config')
    adapted('--root', default=DATA, help='folder that contains coco_sample and ade20k_sample')
    add('report', _report, 'write docs/results and the metafiles')
    return parser


def _run(args: argparse.Namespace) -> None:
    lab = Lab(args.work_dir.resolve(), args.teacher, args.images)
    run_missing(lab, [TABLES[name] for name in args.tables], args.rows, args.jobs)


def _transfer(args: argparse.Namespace) -> None:
    lab = Lab(args.work_dir.resolve(), args.teacher, args.images)
    run_transfers(lab, [TRANSFERS[name] for name in args.names], args.jobs)


def _time(args: argparse.Namespace) -> Iterator[str]:
    tables = [TABLES[name] for name in args.tables]
    return time_rows(tables, args.rounds, RESULTS / SECONDS, args.rows)


def _zero_shot(args: argparse.Namespace) -> Iterator[str]:
    files = labeled_images(args.images, args.every)
    for attn in args.attn:
        right = count_right(args.teacher, attn, files, args.gains, args.window, args.calibrate)
        yield f'{attn}: {right} of {len(files)} right'


def _border(args: argparse.Namespace) -> Iterator[str]:
    lab = Lab(args.work_dir.resolve(), args.checkpoint, [])
    tests = border_table(lab, args.config, args.checkpoint, args.divisors, args.cfg_options)
    return (f'{name}: {metrics}' for name, metrics in tests)


def _tiles(args: argparse.Namespace) -> Iterator[str]:
    from experiments.detectors import tiles_table  # and with it mmdet

    return tiles_table(
        args.config,
        args.checkpoint,
        args.tile,
        args.overlaps,
        args.cfg_options,
        args.work_dir,
        tuple(args.size) if args.size else None,
        args.whole,
        args.flips,
    )


def _exported(args: argparse.Namespace) -> Iterator[str]:
    from experiments.detectors import exported_table

    size = tuple(args.size) if args.size else None
    return exported_table(
        args.config, args.checkpoint, size, args.half, args.cfg_options, args.work_dir
    )


def _adapted(args: argparse.Namespace) -> Iterable[str]:
    adapt_all = partial(refused, args.all, every=args.every)
    for backbone in args.backbones:
        yield from adapt_all(backbone) if args.all else try_adapted(backbone, args.root)


def _report(_: argparse.Namespace) -> Iterator[str]:
    yield str(write_report(RESULTS))
    write_results(RESULTS, ROOT / 'configs')


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
