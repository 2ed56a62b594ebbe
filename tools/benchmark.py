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
import copy
import ctypes
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from importlib import metadata
from math import isnan, log
from pathlib import Path
from statistics import linear_regression, median, quantiles
from typing import Any

import peers
import torch
from op_shares import op_shares
from peers import Case, Side
from torch import Tensor, nn

import mmca
from mmca.dialects import to_original_names
from mmca.errors import InputError

MODES = ('forward', 'step')
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float64': torch.float64}
SIZES = ('1x200x336x64', '1x100x168x128', '8x56x56x64')
SIDES = (56, 80, 112, 160, 224, 320, 448, 512)
CONFIGS = ('configs/coco/maskrcnn_ca_pvt_s.py', 'configs/coco/maskrcnn_pvt_s.py')
# Largest difference allowed from the peer in float64, in units of the same tensor's largest
# magnitude. (The straightforward layer's own float32 is 9e-4 off at 200 x 336, ours 5e-5.)
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}
FEW_ROUNDS = 10
MIB = 1 << 20


class DisagreementError(Exception):
    """Two sides that ought to agree do not."""


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
            print(json.dumps(_measure_memory(cases, *args.alone, args)))
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
    _write(report, args)
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
                record['sides'][name]['profile'] = _profile(sides[name], args)
        del sides  # the memory of each side is measured in a process of its own
        if not args.no_memory:
            for name, side in record['sides'].items():
                for mode in MODES:
                    side[mode] |= _memory_of(case.name, name, mode, argv)
        record['ratios'] = ratios(case, record['sides'])
        report['cases'].append(record)
        _print_case(record)
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


def build(case: Case, args: argparse.Namespace) -> dict[str, Side]:
    """Build all sides; those that ought to agree get the same weights.

    Args:
        case: what to build.
        args: the resolved command line.

    Returns:
        Name -> side.
    """
    sides = {}
    for name, builder in case.builders.items():
        torch.manual_seed(args.seed)
        sides[name] = builder()
    for ours, theirs in case.same:
        if isinstance(sides[theirs].call, nn.Module):
            weights, _ = to_original_names(dict(sides[theirs].call.named_parameters()))
            sides[ours].call.load_state_dict(weights)
    return sides


def check(case: Case, args: argparse.Namespace) -> list[dict]:
    """Compare outputs and gradients of the sides that ought to agree, in training mode.

    The peer's results in float64 are the measure: ours are held to them in float64, which tells a
    wrong formula from rounding, and in float32 where that is what is timed; there the peer's own
    float32 error is allowed, if it is larger.

    Args:
        case: what to compare.
        args: the resolved command line.

    Returns:
        The largest relative error of each pair and dtype, and where it was.

    Raises:
        DisagreementError: an error above `TOLERANCES`.
    """
    sides, records = build(case, args) if case.same else {}, []
    for ours, peer in case.same:
        wanted = _results(sides[peer], torch.float64, args.seed)
        for dtype in dict.fromkeys([torch.float64, args.dtype]):
            if dtype not in TOLERANCES:
                continue
            found = _results(sides[ours], dtype, args.seed)
            errors = {name: _error(found[name], wanted[name]) for name in wanted}
            worst = max(errors, key=errors.get)
            label, allowed = str(dtype).removeprefix('torch.'), TOLERANCES[dtype]
            if errors[worst] > allowed and dtype != torch.float64:
                # Sharp attention on a large grid amplifies every rounding: ours must not be
                # further from the truth than the peer is in the same precision.
                own = _results(sides[peer], dtype, args.seed)
                allowed = max(allowed, _error(own[worst], wanted[worst]))
            if errors[worst] > allowed:
                raise DisagreementError(
                    f'{case.name}: {ours} and {peer} differ by {errors[worst]:.1e} of the '
                    f'largest magnitude in the {worst} ({label}, allowed {allowed:.0e})'
                )
            record = {'ours': ours, 'peer': peer, 'dtype': label}
            records.append(record | {'error': errors[worst], 'in': worst})
    return records


def _results(side: Side, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """Outputs and all gradients in a dtype; the side is left as it is."""
    call, gradients = side.call, {}
    inputs = [
        x.detach().to(dtype).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
        for x in (side.inputs if side.probe is None else side.probe)
    ]
    if isinstance(call, nn.Module):
        call = copy.deepcopy(call).to(dtype)
        call.train()
    outputs = _tensors(call(*inputs))
    torch.autograd.backward(outputs, _output_grads(outputs, seed))
    if isinstance(call, nn.Module):
        gradients, _ = to_original_names({n: p.grad for n, p in call.named_parameters()})
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor) and x.requires_grad:
            gradients[f'input {i}'] = x.grad
    named = {f'gradient of {name}': grad for name, grad in gradients.items()}
    return {f'output {i}': x.detach() for i, x in enumerate(outputs)} | named


def _error(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest magnitude, wanted in float64; infinite for a NaN."""
    if found.shape != wanted.shape:
        return float('inf')
    error = ((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-300)).item()
    return float('inf') if isnan(error) else error


def _tensors(output: Any) -> list[Tensor]:
    """The tensors of an output that a backward pass can start from."""
    items = output if isinstance(output, tuple | list) else [output]
    return [item for item in items if isinstance(item, Tensor) and item.requires_grad]


def _output_grads(outputs: list[Tensor], seed: int) -> list[Tensor]:
    """Random gradients, the same for all sides; 1 for a loss."""
    generator = torch.Generator().manual_seed(seed + 1)
    return [
        torch.randn(x.shape, generator=generator).to(x) if x.dim() else torch.ones_like(x)
        for x in outputs
    ]


def measure(sides: dict[str, Side], args: argparse.Namespace) -> dict[str, dict]:
    """Time all sides in turn: each round runs every side once, in another order.

    Args:
        sides: name -> side.
        args: `rounds`, `warmup`, `device`, `amp`, `seed`.

    Returns:
        Name of the side -> mode -> seconds of every round, their median and spread; besides, its
        number of parameters.
    """
    seconds = {name: {mode: [] for mode in MODES} for name in sides}
    names = list(sides)
    for i in range(-args.warmup, args.rounds):
        shift = i % len(names)
        for mode in MODES:
            for name in names[shift:] + names[:shift]:
                elapsed = _time(sides[name], mode, args)
                if i >= 0:
                    seconds[name][mode].append(elapsed)
    records = {}
    for name, by_mode in seconds.items():
        records[name] = {mode: {'seconds': s, **summary(s)} for mode, s in by_mode.items()}
        records[name]['parameters'] = sum(p.numel() for p in _parameters(sides[name]))
    return records


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and spread.

    Args:
        values: at least one.

    Returns:
        `median`, `low` and `high`: the 10th and 90th percentile, or the extremes of few values.
    """
    low, high = min(values), max(values)
    if len(values) >= FEW_ROUNDS:
        tenths = quantiles(values, n=10, method='inclusive')
        low, high = tenths[0], tenths[-1]
    return {'median': median(values), 'low': low, 'high': high}


def _time(side: Side, mode: str, args: argparse.Namespace) -> float:
    _prepare(side, mode)
    _synchronize(args.device)
    start = time.perf_counter()
    outputs = _execute(side, mode, args)
    _synchronize(args.device)
    elapsed = time.perf_counter() - start
    del outputs  # so that giving memory back is in nobody's time
    return elapsed


def _profile(side: Side, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Mode -> kind of operator -> milliseconds."""

    def run(mode: str) -> None:
        _prepare(side, mode)
        _execute(side, mode, args)

    return {mode: op_shares(partial(run, mode), args.device) for mode in MODES}


def _prepare(side: Side, mode: str) -> None:
    """Set the mode and forget gradients."""
    if isinstance(side.call, nn.Module):
        side.call.train(mode == 'step')
    for x in (*_parameters(side), *side.inputs):
        if isinstance(x, Tensor):
            x.grad = None


def _execute(side: Side, mode: str, args: argparse.Namespace) -> Any:
    """One forward pass, or one training step."""
    with torch.set_grad_enabled(mode == 'step'), _autocast(args):
        outputs = side.call(*side.inputs)
    if mode == 'step':
        tensors = _tensors(outputs)
        if side.grads is None:
            side.grads = _output_grads(tensors, args.seed)
        torch.autograd.backward(tensors, side.grads)
        if side.after is not None:
            side.after()
    return outputs


def _autocast(args: argparse.Namespace) -> Any:
    if not args.amp:
        return nullcontext()
    return torch.autocast(
        args.device.type, torch.float16 if args.device.type == 'cuda' else torch.bfloat16
    )


def _synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def _parameters(side: Side) -> list[Tensor]:
    return list(side.call.parameters()) if isinstance(side.call, nn.Module) else []


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


def _memory_of(case: str, side: str, mode: str, argv: list[str]) -> dict:
    """What :func:`_measure_memory` finds in a new process, or why it finds nothing."""
    command = [sys.executable, __file__, *argv, '--alone', case, side, mode]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ['killed?'])[-1]
        print(f'no memory figures of {side}, {mode}: exit code {result.returncode}, {last}')
        return {'peak_bytes': None}
    return json.loads(result.stdout.splitlines()[-1])


def _measure_memory(
    cases: list[Case], name: str, side_name: str, mode: str, args: argparse.Namespace
) -> dict:
    """Run one side once, in a process that does nothing else.

    Args:
        cases: all of the command.
        name: of the case.
        side_name: of the side.
        mode: 'forward' or 'step'.
        args: the resolved command line.

    Returns:
        `peak_bytes`, and for 'step' `kept_bytes`.
    """
    torch.manual_seed(args.seed)
    side = next(case for case in cases if case.name == name).builders[side_name]()
    _prepare(side, mode)
    if args.device.type == 'cuda':
        base = torch.cuda.memory_allocated(args.device)
        torch.cuda.reset_peak_memory_stats(args.device)
        _execute(side, mode, args)
        found = {'peak_bytes': torch.cuda.max_memory_allocated(args.device) - base}
    else:
        _trim()
        base = _resident_peak(restart=True)
        _execute(side, mode, args)
        found = {'peak_bytes': _resident_peak() - base}
    if mode == 'step':
        found['kept_bytes'] = _kept(side, args)
    return found


def _trim() -> None:
    """Give back what building the side left unused, which would hide a part of the peak."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc has it
    if trim is not None:
        trim(0)


def _resident_peak(restart: bool = False) -> int:
    """The most bytes in memory since the last restart, or ever where there is no restarting."""
    try:
        if restart:
            Path('/proc/self/clear_refs').write_text('5')
        status = Path('/proc/self/status').read_text()
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith('VmHWM')
        )
    except OSError:
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kept(side: Side, args: argparse.Namespace) -> int:
    """Bytes that autograd keeps after a forward pass, without parameters and inputs."""
    given = [x for x in (*_parameters(side), *side.inputs) if isinstance(x, Tensor)]
    known = {x.untyped_storage().data_ptr() for x in given}
    storages = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), _autocast(args):
        outputs = side.call(*side.inputs)
    del outputs  # which kept what was packed alive until here, so that no address came twice
    return sum(storages.values())


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
            print(f'  {name:24}{_spread(summary(seconds))}')
            rows[name] = {'seconds': seconds, **summary(seconds)}
    return found


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


def _print_case(record: dict) -> None:
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
        times = [_spread(side[mode], 1e3, 1) for mode in MODES]
        line(name, times, [_or_dash(number, 1) for number in memory])
    for name, side in record['sides'].items():
        for mode, kinds in side.get('profile', {}).items():
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


def _write(report: dict, args: argparse.Namespace) -> None:
    folder = Path(args.out)
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


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
