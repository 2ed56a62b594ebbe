"""Profile workloads: torch.profiler's self times, summed by kind of operator."""

from argparse import Namespace
from collections import Counter
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
        transforms make of their inputs are a separate kind.
    """
    gpu, found = args.device.type == 'cuda', {}
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]

    def run(mode: str) -> None:
        prepare(workload, mode)
        execute(workload, mode, args)

    for mode in MODES:
        run(mode)
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(ROUNDS):
                run(mode)
        found[mode] = sum_by_kind(profiler.events(), gpu)
    return found


def sum_by_kind(events: Iterable[FunctionEvent], gpu: bool) -> dict[str, float]:
    """Self times, on a GPU the kernels', in milliseconds per call, the largest first."""
    totals: Counter[str] = Counter()
    for event in events:
        # Profiles state a kernel's time twice: at the kernel and at the operator that launched it.
        if event.device_type == DeviceType.CPU:
            spent = event.self_device_time_total if gpu else event.self_cpu_time_total
            totals[_kind(event)] += spent / 1e3 / ROUNDS
    return dict(totals.most_common())


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
    while event is not None and event.name.removeprefix('aten::') not in TRANSFORMS:
        event = event.cpu_parent
    return event is not None
