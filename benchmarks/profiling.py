"""Where the time of a workload goes: torch.profiler's self times, summed by kind of operator."""

from argparse import Namespace
from collections.abc import Iterable

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from benchmarks.cases import Workload
from benchmarks.measurement import MODES, execute, prepare

ROUNDS = 5
PRODUCTS = ('mm', 'addmm', 'bmm', 'baddbmm', 'convolution')
TRANSFORMS = ('_fft_r2c', '_fft_c2r', '_fft_c2c')


def profile(workload: Workload, args: Namespace) -> dict[str, dict[str, float]]:
    """Profile a workload: one call to warm up, then `ROUNDS` calls.

    Returns:
        Mode -> kind of operator -> milliseconds per call, the largest first. Copies that torch's
        transforms make of their inputs are a kind of their own.
    """
    return {mode: _profile_mode(workload, mode, args) for mode in MODES}


def _profile_mode(workload: Workload, mode: str, args: Namespace) -> dict[str, float]:
    def run() -> None:
        prepare(workload, mode)
        execute(workload, mode, args)

    gpu = args.device.type == 'cuda'
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    run()
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(ROUNDS):
            run()
    return sum_by_kind(profiler.events(), gpu)


def sum_by_kind(events: Iterable[FunctionEvent], gpu: bool) -> dict[str, float]:
    """Self times in milliseconds per call, the largest first.

    Args:
        events: of `ROUNDS` calls.
        gpu: the times of kernels. Those are stated twice, at the kernel and at the operator that
            launched it, and counted at the operator.
    """
    totals: dict[str, float] = {}
    for event in events:
        if event.device_type == DeviceType.CPU:
            spent = event.self_device_time_total if gpu else event.self_cpu_time_total
            kind = _kind(event)
            totals[kind] = totals.get(kind, 0) + spent / 1e3 / ROUNDS
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def _kind(event: FunctionEvent) -> str:
    name = event.name.removeprefix('aten::')
    if name in TRANSFORMS:
        return 'transforms'
    if name in ('copy_', 'clone'):
        return 'copies in transforms' if _inside_transform(event) else 'copies'
    if name.rstrip('_') in PRODUCTS or 'convolution' in name:
        return 'products'
    return 'fused attention' if name.startswith('_scaled_dot_product') else 'all else'


def _inside_transform(event: FunctionEvent | None) -> bool:
    while event is not None:
        if event.name.removeprefix('aten::') in TRANSFORMS:
            return True
        event = event.cpu_parent
    return False
