"""Repeat the results in docs: python -m experiments COMMAND.

Runs that were stopped go on when the command is started again. To repeat a run,
remove its log. Data sets are looked for where `mmca train` does, see MMCA_DATA_ROOT.
"""

import argparse
import sys
from collections.abc import Sequence
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
    run = commands.add_parser('run', help='train the rows of a table that have no log yet')
    run.add_argument('tables', nargs='+', choices=TABLES, metavar='TABLE', help=', '.join(TABLES))
    run.add_argument('--rows', nargs='+', default=[], help='names of rows; all by default')
    transfer = commands.add_parser('transfer', help='run transfers, for tables and ablations')
    transfer.add_argument(
        'names', nargs='+', choices=TRANSFERS, metavar='NAME', help=', '.join(TRANSFERS)
    )
    for command in (run, transfer):
        command.add_argument('--teacher', required=True, metavar='FILE', help="ImageNet's DeiT-T")
        command.add_argument('--images', nargs='+', default=[], metavar='DIR', help='for transfers')
        command.add_argument('--jobs', type=int, default=2, help='runs at a time; default 2')
        command.add_argument('--work-dir', type=Path, default=Path('work_dirs/experiments'))
    shot = commands.add_parser('zero-shot', help='right ImageNet images of a converted DeiT-T')
    shot.add_argument('attn', nargs='+', help='letters, one or one per block')
    shot.add_argument('--teacher', required=True, metavar='FILE', help="ImageNet's DeiT-T")
    shot.add_argument(
        '--images', nargs='+', required=True, metavar='DIR', help='a folder per class'
    )
    shot.add_argument('--every', type=int, default=1, metavar='N', help='take each N-th image')
    shot.add_argument('--gains', nargs=2, type=float, metavar=('G_A', 'G_B'), help='of K')
    shot.add_argument('--calibrate', nargs='+', default=[], metavar='DIR', help='on their images')
    border = commands.add_parser('border', help='test a model on padded images, and unwrapped')
    border.add_argument('config')
    border.add_argument('checkpoint')
    border.add_argument('--divisors', nargs='+', type=int, default=[32, 64, 128, 512])
    border.add_argument('--work-dir', type=Path, default=Path('work_dirs/experiments/border'))
    border.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    adapted = commands.add_parser('adapted', help="train libraries' own configs for one step")
    adapted.add_argument('backbones', nargs='+', help='such as ca_pvt_t')
    adapted.add_argument(
        '--all', choices=('mmdet', 'mmseg'), help='adapt all of its configs instead'
    )
    adapted.add_argument('--every', type=int, default=1, metavar='N', help='take each N-th config')
    adapted.add_argument('--root', default=DATA, help='folder of coco_sample and ade20k_sample')
    timed = commands.add_parser('time', help='time training iterations of the rows of tables')
    timed.add_argument('tables', nargs='+', choices=TABLES, metavar='TABLE', help=', '.join(TABLES))
    timed.add_argument('--rounds', type=int, default=5, help='iterations a row; default 5')
    commands.add_parser('report', help='write docs/results and the metafiles')
    args = parser.parse_args(argv)

    def job() -> int:
        if args.command == 'report':
            print(write_report(RESULTS))
            write_results(RESULTS, ROOT / 'configs')
            return 0
        if args.command == 'time':
            time_rows([TABLES[name] for name in args.tables], args.rounds, RESULTS / SECONDS)
            return 0
        if args.command == 'zero-shot':
            files = labeled_images(args.images, args.every)
            for attn in args.attn:
                right = count_right(args.teacher, attn, files, args.gains, args.calibrate)
                print(f'{attn}: {right} of {len(files)} right', flush=True)
            return 0
        if args.command == 'border':
            lab = Lab(args.work_dir.resolve(), args.checkpoint, [])
            tests = border_table(lab, args.config, args.checkpoint, args.divisors, args.cfg_options)
            for name, metrics in tests:
                print(f'{name}: {metrics}', flush=True)
            return 0
        if args.command == 'adapted':
            for backbone in args.backbones:
                lines = try_adapted(backbone, args.root)
                if args.all:
                    lines = refused(args.all, backbone, args.every)
                for line in lines:
                    print(line, flush=True)
            return 0
        lab = Lab(args.work_dir.resolve(), args.teacher, args.images)
        if args.command == 'run':
            run_missing(lab, [TABLES[name] for name in args.tables], args.rows, args.jobs)
        else:
            run_transfers(lab, [TRANSFERS[name] for name in args.names], args.jobs)
        return 0

    return guarded(job)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
