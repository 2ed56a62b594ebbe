"""Repeat the results in docs/results: python -m experiments {run,report}.

`run` trains what has no log yet; started again, it goes on where it was stopped. To repeat a run,
remove its log. Data sets are looked for where `mmca train` does, see MMCA_DATA_ROOT.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.report import write_report
from experiments.rows import TABLES
from experiments.run import RESULTS, Lab, run_missing
from mmca.cli.main import guarded


def main(argv: Sequence[str]) -> int:
    """Run one sub-command.

    Args:
        argv: the command line without the program's name.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog='python -m experiments',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train what has no log yet')
    run.add_argument('tables', nargs='+', choices=TABLES, metavar='TABLE', help=', '.join(TABLES))
    run.add_argument('--teacher', required=True, metavar='FILE', help='ImageNet weights of DeiT-T')
    run.add_argument(
        '--images', nargs='+', default=[], metavar='DIR', help='unlabeled images for transfers'
    )
    run.add_argument('--rows', nargs='+', default=[], help='names of rows; all by default')
    run.add_argument('--jobs', type=int, default=2, help='runs at a time; default %(default)s')
    run.add_argument('--work-dir', type=Path, default=Path('work_dirs/experiments'))
    commands.add_parser('report', help='write the page and the plots in docs/results')
    args = parser.parse_args(argv)
    if args.command == 'report':
        return guarded(lambda: print(write_report(RESULTS)) or 0)
    lab = Lab(args.work_dir.resolve(), args.teacher, args.images)
    tables = [TABLES[name] for name in args.tables]
    return guarded(lambda: run_missing(lab, tables, args.rows, args.jobs) or 0)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
