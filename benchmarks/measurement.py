"""Run workloads, forward and as training steps, and time them in turn."""

import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import Workload
from mmca.errors import InputError

MODES = ('forward', 'step')
FEW_ROUNDS = 10


def configure(args: Namespace) -> None:
    """Set threads and the precision of products for the whole process; no TF32 on a CPU."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.tf32 and args.device.type == 'cpu':
        raise InputError('--tf32 needs a GPU: add --device cuda')
    torch.set_float32_matmul_precision('high' if args.tf32 else 'highest')


def measure(workloads: dict[str, Workload], args: Namespace) -> dict[str, dict]:
    """Time all workloads in turn: each round runs every one once, in rotating order.

    Returns:
        Name -> mode -> `seconds` of every round, their median and spread; and `parameters`.
    """
    seconds = {name: {mode: [] for mode in MODES} for name in workloads}
    names = list(workloads)
    for i in range(-args.warmup, args.rounds):
        shift = i % len(names)
        for mode in MODES:
            for name in names[shift:] + names[:shift]:
                elapsed = _time(workloads[name], mode, args)
                if i >= 0:
                    seconds[name][mode].append(elapsed)
    records = {}
    for name, by_mode in seconds.items():
        records[name] = {mode: {'seconds': s, **summary(s)} for mode, s in by_mode.items()}
        records[name]['parameters'] = sum(p.numel() for p in workloads[name].parameters())
    return records


def summary(values: Sequence[float]) -> dict[str, float]:
    """`median`, `low` and `high`: the 10th and 90th percentile, or the extremes of few values."""
    low, high = min(values), max(values)
    if len(values) >= FEW_ROUNDS:
        tenths = quantiles(values, n=10, method='inclusive')
        low, high = tenths[0], tenths[-1]
    return {'median': median(values), 'low': low, 'high': high}


def _time(workload: Workload, mode: str, args: Namespace) -> float:
    prepare(workload, mode)
    _synchronize(args.device)
    start = time.perf_counter()
    outputs = execute(workload, mode, args)
    _synchronize(args.device)
    elapsed = time.perf_counter() - start
    del outputs  # after the clock has stopped: freeing memory is not timed
    return elapsed


def _synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def prepare(workload: Workload, mode: str) -> None:
    """Set a workload's mode, 'forward' or 'step', and drop its gradients."""
    if isinstance(workload.call, nn.Module):
        workload.call.train(mode == 'step')
    for x in (*workload.parameters(), *workload.inputs):
        if isinstance(x, Tensor):
            x.grad = None


def execute(workload: Workload, mode: str, args: Namespace) -> Any:
    """Run one forward pass or one training step and return what the workload returns."""
    with torch.set_grad_enabled(mode == 'step'), autocast(args):
        outputs = workload.call(*workload.inputs)
    if mode == 'step':
        tensors = differentiable(outputs)
        if workload.grads is None:
            workload.grads = output_grads(tensors, args.seed)
        torch.autograd.backward(tensors, workload.grads)
        if workload.after is not None:
            workload.after()
    return outputs


def autocast(args: Namespace) -> Any:
    """The context of `--amp`: float16 on a GPU, bfloat16 on the CPU; without it, none."""
    if not args.amp:
        return nullcontext()
    dtype = torch.float16 if args.device.type == 'cuda' else torch.bfloat16
    return torch.autocast(args.device.type, dtype)


def differentiable(output: Any) -> list[Tensor]:
    """The tensors of an output that a backward pass can start from."""
    items = output if isinstance(output, tuple | list) else [output]
    return [item for item in items if isinstance(item, Tensor) and item.requires_grad]


def output_grads(outputs: list[Tensor], seed: int) -> list[Tensor]:
    """Random gradients of the outputs, the same for all workloads; 1 for a loss."""
    generator = torch.Generator().manual_seed(seed + 1)
    return [
        torch.randn(x.shape, generator=generator).to(x) if x.dim() else torch.ones_like(x)
        for x in outputs
    ]
