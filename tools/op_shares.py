"""Where time goes: torch.profiler's own times of operators, summed by kind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

ROUNDS = 5
PRODUCTS = ('mm', 'addmm', 'bmm', 'baddbmm', 'convolution')
TRANSFORMS = ('_fft_r2c', '_fft_c2r', '_fft_c2c')


def op_shares(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Profile a function.

    Args:
        run: called once to warm up, then `ROUNDS` times.
        device: whose time is counted.

    Returns:
        Kind of operator -> milliseconds a call, the largest first. Copies that torch's transforms
        make of their inputs are a kind of their own.
    """
    run()
    gpu = device.type == 'cuda'
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(ROUNDS):
            run()
    totals: dict[str, float] = {}
    for event in profiler.events():
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
