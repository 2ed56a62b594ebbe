"""Benchmarks of mmca: python -m benchmarks COMMAND.

All workloads of a case run alternately in one process, so that a busy machine slows all of them.
Reports contain medians, and medians of the ratios within a round. A `step` is a forward and
backward pass in training mode, for a detector also the optimizer step. If workloads that must agree
do not, the command reports the difference instead of times and exits with code 1.

Memory is measured in a separate process per workload. `peak` is the peak memory without the module
and its inputs, on CPUs including libraries that the first call loads. `kept` is the memory that
autograd keeps for the backward pass, without parameters and inputs.
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks import numerics, training
from benchmarks.agreement import DisagreementError, check
from benchmarks.cases import SUITES
from benchmarks.flags import COMMON, Parser, at_least
from benchmarks.measurement import MODES, configure, measure
from benchmarks.memory import memory_of
from benchmarks.profiling import profile
from benchmarks.report import environment, print_case, ratios, write
from mmca.errors import InputError

STUDIES = {'numerics': numerics, 'training': training}  # do not compare times


def main(argv: Sequence[str]) -> int:
    """Run a command line without the program's name.

    Returns:
        The exit code: 0, 1 after a disagreement, 2 after an input error, 130 after an interrupt.
    """
    try:
        args = build_parser().parse_args(argv)
        if args.command in STUDIES:
            STUDIES[args.command].run(args)
        else:
            write(_compare(args, list(argv)), args.out)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except DisagreementError as error:
        print(f'disagreement: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    return 0


def build_parser() -> Parser:
    """The parser of all sub-commands."""
    parser = Parser(
        prog='python -m benchmarks',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)

    def add_command(name: str, about: str, flags: dict[str, dict]) -> None:
        sub = commands.add_parser(name, help=about.splitlines()[0], description=about)
        for flag, keywords in flags.items():
            sub.add_argument(flag, **keywords)

    for name, suite in SUITES.items():
        about = suite.cases.__doc__.splitlines()[0]
        rounds = dict(type=at_least(1), default=suite.rounds, help='timed; default %(default)s')
        add_command(name, about, {**suite.flags, '--rounds': rounds, **COMMON})
    for name, study in STUDIES.items():
        add_command(name, study.__doc__, study.FLAGS)
    return parser


def _compare(args: argparse.Namespace, argv: list[str]) -> dict:
    """Measure every case of a suite, print its tables and return the report."""
    configure(args)
    suite = SUITES[args.command]
    cases = suite.cases(args)
    report = {'command': args.command, 'argv': argv, 'environment': environment(args, argv)}
    for name, value in report['environment'].items():
        print(f'{name + ":":10}{value}')
    checks = [check(case, args) for case in cases]
    report['cases'] = []
    for case, checked in zip(cases, checks, strict=True):
        record = {key: getattr(case, key) for key in ('name', 'images', 'skipped')}
        workloads = case.build(args.seed)
        results = measure(workloads, args)
        if args.profile:
            for name in case.ours:
                results[name]['profile'] = profile(workloads[name], args)
        del workloads  # before other processes measure the memory of each
        if not args.no_memory:
            for name, result in results.items():
                for mode in MODES:
                    result[mode] |= memory_of(case.name, name, mode, args)
        record |= {'checks': checked, 'results': results, 'ratios': ratios(case, results)}
        report['cases'].append(record)
        print_case(record)
    return report


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
