"""Examine the installed packages: what is missing, broken or out of range, and how to fix it."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from io import StringIO

from mmca.config.packages import FORKS, how_to_install, requirement

MODULES = {  # package -> modules whose import shows that it works
    'torch': ('torch',),
    'torchvision': ('torchvision',),  # not needed, but mmengine imports one that is installed
    'mmengine': ('mmengine.runner',),
    'mmcv': ('mmcv', 'mmcv.ops'),
    'mmdet': ('mmdet.models', 'mmdet.datasets'),
    'pycocotools': ('pycocotools.mask',),
    'mmseg': ('mmseg.models', 'mmseg.datasets'),
    'mmpretrain': ('mmpretrain.models', 'mmpretrain.datasets'),
}
TASKS = {  # task -> packages, besides those that all tasks need
    'detectors': ('mmdet', 'pycocotools'),
    'segmentors': ('mmseg',),
    'classifiers': ('mmpretrain',),
}
ALL_TASKS = ('torch', 'torchvision', 'mmengine', 'mmcv')
PREBUILT = (  # without --only-binary mim falls back to a build without operators
    'pip install onedl-mim && mim install --only-binary=onedl-mmcv onedl-mmcv==2.3.6 (wheels for '
    'Python 3.12 with torch 2.9.0 for CUDA 12.9, Python 3.10 with torch 2.8.0 for CUDA 12.8), or '
    "build it with torch's CUDA toolkit: "
)


@dataclass
class Finding:
    """The state of a package or of the devices."""

    name: str
    version: str = '-'
    state: str = 'ok'
    problem: str = ''
    fix: str = ''  # command
    usable: bool = True


def examine() -> list[Finding]:
    """Examine the packages that detectors, segmentors and classifiers need, then the devices."""
    return [*map(_examine, MODULES), _examine_devices()]


def missing_for(task: str, findings: list[Finding]) -> list[str]:
    """The packages that keep a task, a key of `TASKS`, from working."""
    needed = (*ALL_TASKS, *TASKS[task])
    return [found.name for found in findings if found.name in needed and not found.usable]


def _examine(name: str) -> Finding:
    distributions = sorted(set(metadata.packages_distributions().get(name, ())))
    spec = find_spec(name)
    if spec is None or spec.loader is None:  # mmca's stand-in for torchvision has no loader
        if name == 'torchvision':
            return Finding(name, state='not installed, not needed')
        state = 'not installed, optional' if name == 'mmpretrain' else 'not installed'
        return Finding(name, '-', state, f'{name} is {state}', _how_to_install(name), False)
    try:
        if name == 'mmpretrain':
            import_module('mmca.engine.no_torchvision')
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            for module in MODULES[name]:
                import_module(module)
    except Exception as error:  # a broken installation raises anything
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        fix = _fix(name, distributions, error)
        return Finding(name, '?', 'does not load', f'{name} does not load: {reason}', fix, False)
    found = Finding(name, str(getattr(sys.modules[name], '__version__', '')))
    if distributions:
        found.version = metadata.version(distributions[-1])
    if name == 'mmcv':
        _examine_operators(found)
    wanted = requirement(name)
    if name in FORKS and distributions and FORKS[name] not in distributions:
        found.state = f"OpenMMLab's own {distributions[0]}"
        found.problem = f'mmca is tested with {FORKS[name]}, not with {distributions[0]}'
        found.fix = f'pip uninstall -y {" ".join(distributions)}; {how_to_install(name)}'
    elif not _in_range(wanted, found.version):
        found.state = f'out of range: {wanted}'
        found.problem = f'{name} {found.version} is outside {wanted}'
        found.fix = f'pip install "{wanted}"'
    return found


def _fix(name: str, distributions: list[str], error: Exception) -> str:
    absent = (getattr(error, 'name', None) or name).partition('.')[0]
    if 'libGL' in str(error):
        return 'pip install --no-deps --force-reinstall opencv-python-headless'
    if name == 'torchvision':
        return 'pip uninstall -y torchvision (not needed), or install the one for your torch'
    if name == 'mmcv' and absent == name:  # built without operators, or for another torch
        clean = f'pip uninstall -y {" ".join(distributions)}; pip cache remove onedl_mmcv'
        return f'{clean}; {_how_to_install(name)}'
    return how_to_install(absent)


def _examine_operators(found: Finding) -> None:
    from mmcv.ops import get_compiling_cuda_version

    cuda = str(get_compiling_cuda_version())
    with_cuda = cuda[:1].isdigit()
    found.state = f'ok, operators for {f"CUDA {cuda}" if with_cuda else "the CPU"}'
    if _gpus() and not with_cuda:
        found.problem = "mmcv's operators were built for the CPU and cannot run on the GPU here"
        found.fix, found.usable = f'pip uninstall -y onedl-mmcv; {_how_to_install("mmcv")}', False


def _examine_devices() -> Finding:
    gpus = _gpus()
    found = Finding('devices', state='; '.join([f'{os.cpu_count()} CPU cores', *gpus]))
    if not gpus and shutil.which('nvidia-smi'):
        found.problem = "an NVIDIA driver is installed, but torch can't use a GPU"
        found.fix = 'install torch for the CUDA version in nvidia-smi, then mmcv again'
    return found


def _gpus() -> list[str]:
    try:
        import torch

        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except Exception:  # torch is missing or broken, as its own finding says
        return []
    return [f'{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB' for gpu in gpus]


def _how_to_install(name: str) -> str:
    return (PREBUILT if name == 'mmcv' and _gpus() else '') + how_to_install(name)


def _in_range(wanted: str, version: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return Requirement(wanted).specifier.contains(version, prereleases=True)
