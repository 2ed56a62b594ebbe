"""Peak memory of a workload, and the memory that autograd keeps, each in a new process."""

import ctypes
import resource
import sys
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cases import SUITES, Workload
from benchmarks.measurement import autocast, configure, execute, prepare


def memory_of(case: str, name: str, mode: str, args: Namespace) -> dict:
    """Run :func:`measure_memory` in a new process; if that fails, print why, without a peak."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
            return pool.submit(_build_and_measure, case, name, mode, args).result()
    except Exception as error:  # out of memory, for example: the times are still worth reporting
        print(f'no memory figures of {name}, {mode}: {type(error).__name__}: {error}')
        return {'peak_bytes': None}


def _build_and_measure(case: str, name: str, mode: str, args: Namespace) -> dict:
    configure(args)
    cases = {case.name: case for case in SUITES[args.command].cases(args)}
    torch.manual_seed(args.seed)
    return measure_memory(cases[case].builders[name](), mode, args)


def measure_memory(workload: Workload, mode: str, args: Namespace) -> dict:
    """Run a workload once: `peak_bytes` and, for 'step', `kept_bytes`, see `benchmarks --help`."""
    prepare(workload, mode)
    if args.device.type == 'cuda':
        execute(workload, mode, args)  # cuBLAS gets its workspace at its first product and keeps it
        prepare(workload, mode)
        base = torch.cuda.memory_allocated(args.device)
        torch.cuda.reset_peak_memory_stats(args.device)
        execute(workload, mode, args)
        found = {'peak_bytes': torch.cuda.max_memory_allocated(args.device) - base}
    else:
        # Reusing free heap memory would hide part of the peak; only glibc can return it.
        if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):
            trim(0)
        base = _resident_peak(restart=True)
        execute(workload, mode, args)
        found = {'peak_bytes': _resident_peak() - base}
    if mode == 'step':
        found['kept_bytes'] = _kept(workload, args)
    return found


def _resident_peak(restart: bool = False) -> int:
    """Peak resident bytes since the last restart, or since the start where none is possible."""
    try:
        if restart:
            Path('/proc/self/clear_refs').write_text('5')
        status = Path('/proc/self/status').read_text()
        return int(status.partition('VmHWM:')[2].split()[0]) * 1024
    except OSError:
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kept(workload: Workload, args: Namespace) -> int:
    given = [x for x in (*workload.parameters(), *workload.inputs) if isinstance(x, Tensor)]
    known = {x.untyped_storage().data_ptr() for x in given}
    storages = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), autocast(args):
        outputs = workload.call(*workload.inputs)
    del outputs  # alive until here, so that no packed tensor's address was used twice
    return sum(storages.values())
