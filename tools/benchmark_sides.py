"""The sides of tools/benchmark.py: whether they agree, and their time and memory."""

from __future__ import annotations

import argparse
import copy
import ctypes
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from math import isnan
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from op_shares import op_shares
from peers import Case, Side
from torch import Tensor, nn

from mmca.checkpoint.key_mapping import to_original_names

MODES = ('forward', 'step')
# Largest difference allowed from the peer in float64, in units of the same tensor's largest
# magnitude. (The straightforward layer's own float32 is 9e-4 off at 200 x 336, ours 5e-5.)
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}
FEW_ROUNDS = 10


class DisagreementError(Exception):
    """Two sides that ought to agree do not."""


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


def profile(side: Side, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Where the time of a side goes.

    Args:
        side: what to run.
        args: `device`, `amp`, `seed`.

    Returns:
        Mode -> kind of operator -> milliseconds.
    """

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


def measure_memory(
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
