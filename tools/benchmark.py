"""Ours against peers, side by side: python tools/benchmark.py {op,layer,backbone,detector,scaling}.

All sides run in one process, in turn, so that a busy machine slows all of them; reported are the
medians and the median of the ratios within a round. `step` is forward and backward in training
mode, of a detector with the optimizer's step. Sides that ought to agree are compared first: if
they do not, nothing is reported and the exit code is 1.

Memory is measured in a new process for each side: `peak` is the highest use over that of the
module and its inputs, and includes what libraries load on their first call; `kept` is what
autograd keeps for the backward pass, without parameters and inputs.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path

import peers
import torch
from benchmark_report import print_case, ratios, slopes, spread, write
from benchmark_sides import (
    MODES,
    DisagreementError,
    build,
    check,
    measure,
    measure_memory,
    profile,
    summary,
)
from peers import Case

import mmca
from mmca.errors import InputError

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float64': torch.float64}
SIZES = ('1x200x336x64', '1x100x168x128', '8x56x56x64')
SIDES = (56, 80, 112, 160, 224, 320, 448, 512)
CONFIGS = ('configs/coco/maskrcnn_ca_pvt_s.py', 'configs/coco/maskrcnn_pvt_s.py')


def main(argv: Sequence[str]) -> int:
    """Compare, print a table, write JSON and a picture.

    Args:
        argv: the command line without the program's name.

    Returns:
        The exit code: 0, 1 after a disagreement, 2 after bad input, 130 after an interrupt.
    """
    args = _parser().parse_args(argv)
    try:
        _resolve(args)
        cases = args.cases(args)
        if args.alone:
            print(json.dumps(measure_memory(cases, *args.alone, args)))
            return 0
        report = _run(cases, args, list(argv))
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except DisagreementError as error:
        print(f'disagreement: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    write(report, Path(args.out))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='tools/benchmark.py',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)

    def command(
        name: str, cases: Callable[[argparse.Namespace], list[Case]], rounds: int
    ) -> argparse.ArgumentParser:
        # The first line of what builds the cases says what the command compares.
        about = cases.__doc__.splitlines()[0]
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(cases=cases)
        sub.add_argument('--rounds', type=int, default=rounds, help=f'timed; default {rounds}')
        sub.add_argument('--warmup', type=int, default=2, help='rounds before those; default 2')
        sub.add_argument('--threads', type=int, help='of torch on the CPU; default its own')
        sub.add_argument('--device', default='cpu', help='cpu (default), cuda, cuda:1')
        sub.add_argument('--dtype', choices=DTYPES, default='float32', help='default float32')
        sub.add_argument(
            '--amp', action='store_true', help='autocast: float16 on a GPU, bfloat16 on the CPU'
        )
        sub.add_argument('--no-memory', action='store_true', help='times only')
        sub.add_argument(
            '--profile', action='store_true', help='also where the time of ours goes, by operator'
        )
        sub.add_argument('--seed', type=int, default=0, help='of weights and inputs; default 0')
        sub.add_argument('--out', default='work_dirs/benchmark', help='folder; default %(default)s')
        sub.add_argument('--alone', nargs=3, help=argparse.SUPPRESS)  # case, side, mode
        return sub

    op = command('op', peers.op_cases, 20)
    layer = command('layer', peers.layer_cases, 20)
    for sub in (op, layer):
        sub.add_argument(
            '--size',
            action='append',
            metavar='BxHxWxC',
            help=f'images, grid, channels; repeatable; default {" ".join(SIZES)}',
        )
    backbone = command('backbone', peers.backbone_cases, 5)
    backbone.add_argument(
        '--ours', nargs='+', metavar='NAME', default=['capvt_s', 'caswin_t', 'pvt_s', 'swin_t']
    )
    backbone.add_argument(
        '--peers', nargs='+', metavar='NAME', default=['mmdet_pvt_s', 'mmdet_swin_t', 'resnet50']
    )
    backbone.add_argument('--batch', type=int, default=1, help='images; default 1')
    backbone.add_argument(
        '--import-rounds', type=int, default=5, help='of importing and building; 0 for none'
    )
    detector = command('detector', peers.detector_cases, 3)
    detector.add_argument(
        '--configs', nargs='+', default=CONFIGS, help='ours, then peers; default the two PVT-S'
    )
    for sub in (backbone, detector):
        sub.add_argument(
            '--shape', nargs=2, type=int, default=(800, 1344), metavar=('H', 'W'), help='image size'
        )
    scaling = command('scaling', peers.scaling_cases, 8)
    scaling.add_argument('--sides', nargs='+', type=int, default=SIDES, help='of square grids')
    scaling.add_argument('--channels', type=int, default=64, help='default 64')
    for sub in (layer, scaling):
        sub.add_argument(
            '--softmax-tokens',
            type=int,
            default=12544,
            help='grids with more go without attention over all tokens; default 12544',
        )
    return parser


def _resolve(args: argparse.Namespace) -> None:
    """Check the options and turn names into what they stand for."""
    least = {'rounds': 1, 'warmup': 1, 'threads': 1, 'batch': 1, 'channels': 1, 'import_rounds': 0}
    for name, low in least.items():
        value = getattr(args, name, None)
        if value is not None and value < low:
            raise InputError(f'--{name.replace("_", "-")} {value}: must be at least {low}')
    if hasattr(args, 'shape') and min(args.shape) < 32:
        raise InputError(f'--shape {args.shape[0]} {args.shape[1]}: both must be at least 32')
    if hasattr(args, 'sides') and min(args.sides) < 1:
        raise InputError(f'--sides {min(args.sides)}: must be at least 1')
    if hasattr(args, 'size'):
        args.sizes = [_parse_size(text) for text in args.size or SIZES]
    try:
        args.device = torch.device(args.device)
    except RuntimeError as error:
        raise InputError(f'--device {args.device}: write cpu, cuda or cuda:1') from error
    if args.device.type not in ('cpu', 'cuda'):
        raise InputError(f'--device {args.device}: known are cpu and cuda')
    if args.device.type == 'cuda' and (args.device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f'--device {args.device}: this torch sees {torch.cuda.device_count()} CUDA devices'
        )
    if args.command == 'detector' and args.dtype != 'float32':
        raise InputError(f'--dtype {args.dtype}: detectors run in float32; take --amp')
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise InputError(f'--out {args.out}: is a file, not a folder')
    args.dtype = DTYPES[args.dtype]
    if args.threads:
        torch.set_num_threads(args.threads)


def _parse_size(text: str) -> tuple[int, ...]:
    parts = text.split('x')
    if len(parts) != 4 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f'--size {text}: write BxHxWxC, such as {SIZES[0]}')
    return tuple(map(int, parts))


def _run(cases: list[Case], args: argparse.Namespace, argv: list[str]) -> dict:
    report = {'command': args.command, 'argv': argv, 'environment': environment(args), 'cases': []}
    for name, value in report['environment'].items():
        print(f'{name + ":":10}{value}')
    checks = {case.name: check(case, args) for case in cases}
    if getattr(args, 'import_rounds', 0):
        report |= _import_and_build(cases[0], args)
    for case in cases:
        record = {'name': case.name, 'tokens': case.tokens, 'skipped': case.skipped}
        sides = build(case, args)
        record |= {'checks': checks[case.name], 'sides': measure(sides, args)}
        if args.profile:
            for name in case.ours:
                record['sides'][name]['profile'] = profile(sides[name], args)
        del sides  # the memory of each side is measured in a process of its own
        if not args.no_memory:
            for name, side in record['sides'].items():
                for mode in MODES:
                    side[mode] |= _memory_of(case.name, name, mode, argv)
        record['ratios'] = ratios(case, record['sides'])
        report['cases'].append(record)
        print_case(record)
    if args.command == 'scaling' and len(cases) > 1:
        report['slopes'] = slopes(report['cases'])
        for name, by_mode in report['slopes'].items():
            print(f'{name:16} time ~ N^{by_mode["forward"]:.3f}, step ~ N^{by_mode["step"]:.3f}')
    return report


def environment(args: argparse.Namespace) -> dict[str, str]:
    """When, where and with what is measured.

    Args:
        args: the resolved command line.

    Returns:
        What -> its description.
    """
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
    settings = ('size', 'shape', 'batch', 'sides', 'channels', 'ours', 'peers', 'configs')
    given = [f'{name} {getattr(args, name)}' for name in settings if getattr(args, name, None)]
    return {
        'date': datetime.now().astimezone().isoformat(timespec='seconds'),
        'machine': f'{platform.machine()}, {models[0] if models else platform.processor()}',
        'device': device,
        'dtype': str(args.dtype).removeprefix('torch.') + (', autocast' if args.amp else ''),
        'threads': str(torch.get_num_threads()),
        'versions': ', '.join(versions),
        'sizes': ', '.join(given) or 'default',
        'rounds': f'{args.rounds} after {args.warmup} of warm-up, seed {args.seed}',
    }


def _memory_of(case: str, side: str, mode: str, argv: list[str]) -> dict:
    """What :func:`measure_memory` finds in a new process, or why it finds nothing."""
    command = [sys.executable, __file__, *argv, '--alone', case, side, mode]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ['killed?'])[-1]
        print(f'no memory figures of {side}, {mode}: exit code {result.returncode}, {last}')
        return {'peak_bytes': None}
    return json.loads(result.stdout.splitlines()[-1])


def _import_and_build(case: Case, args: argparse.Namespace) -> dict:
    """Seconds to import the backbones' modules, each time anew, and to build each backbone."""
    modules = ['mmca.backbones', 'mmdet.models.backbones']
    if not any(name in peers.MMDET for name in case.builders):
        del modules[1]
    imports = {module: [] for module in modules}
    builds = {name: [] for name in case.builders}
    for i in range(-1, args.import_rounds):  # the first reads the files from the disk
        for module in modules[:: 1 if i % 2 else -1]:
            code = (
                'import time; start = time.perf_counter(); '
                f'import {module}; print(time.perf_counter() - start)'
            )
            result = subprocess.run(
                [sys.executable, '-c', code], capture_output=True, text=True, check=True
            )
            if i >= 0:
                imports[module].append(float(result.stdout.splitlines()[-1]))
        for name, seconds in builds.items():
            start = time.perf_counter()
            peers.init_backbone(peers.build_backbone(name))
            if i >= 0:
                seconds.append(time.perf_counter() - start)
    found = {'imports': imports, 'builds': builds}
    for what, rows in found.items():
        print(f'\n{what}, s')
        for name, seconds in rows.items():
            print(f'  {name:24}{spread(summary(seconds))}')
            rows[name] = {'seconds': seconds, **summary(seconds)}
    return found


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
