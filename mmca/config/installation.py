"""Find packages that are missing, broken or out of range, and the commands that fix them."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO

from mmca.config.packages import (
    OPENMMLAB,
    distributions,
    how_to_install,
    in_range,
    line_in_use,
    line_of,
    requirement,
)

MODULES = {  # package -> modules whose import shows that it works
    'numpy': ('numpy',),
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
ALL_TASKS = ('numpy', 'torch', 'torchvision', 'mmengine', 'mmcv')
PREBUILT = {  # without --only-binary mim falls back to a build without operators
    'onedl': 'pip install onedl-mim && mim install --only-binary=onedl-mmcv onedl-mmcv==2.3.6 '
    '(wheels for Python 3.12 with torch 2.9.0 for CUDA 12.9, Python 3.10 with torch 2.8.0 for CUDA '
    "12.8), or build it with torch's CUDA toolkit: ",
    'openmmlab': 'pip install openmim && mim install --only-binary=mmcv "mmcv>=2.0.1,<2.2" (wheels '
    "for torch 2.1 and older), or build it with torch's CUDA toolkit: ",
}


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
    findings = [*map(_examine, MODULES)]
    broken = [found for found in findings if found.state == 'does not load']
    for found in findings if broken else ():
        odd = [one for one in distributions(found.name) if line_of(one) != line_in_use()]
        if found.name in OPENMMLAB and odd:
            found.problem = f'{odd[0]} is incompatible with the other libraries'
            found.fix = _replace(found.name)
    causes = [found for found in findings if found.problem and found.name in ALL_TASKS]
    for found in broken if causes else ():
        if found.name not in ALL_TASKS or causes[0].name == 'numpy':
            found.fix = causes[0].fix  # the likely cause
    return [*findings, _examine_devices()]


def missing_for(task: str, findings: list[Finding]) -> list[str]:
    """The packages that keep a task, a key of `TASKS`, from working."""
    needed = (*ALL_TASKS, *TASKS[task])
    return [found.name for found in findings if found.name in needed and not found.usable]


def _examine(name: str) -> Finding:
    installed = distributions(name)
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
        fix = _fix(name, error)
        return Finding(name, '?', 'does not load', f'{name} does not load: {reason}', fix, False)
    found = Finding(name, str(getattr(sys.modules[name], '__version__', '')))
    found.version = next(iter(installed.values()), found.version)
    if name == 'mmcv':
        _examine_operators(found)
    _examine_version(found, installed)
    return found


def _examine_version(found: Finding, installed: dict[str, str]) -> None:
    name, version, wanted = found.name, found.version, requirement(found.name)
    if name in OPENMMLAB and installed and line_of(next(iter(installed))) == 'openmmlab':
        found.state, wanted = f"{found.state}, OpenMMLab's own", requirement(name, 'openmmlab')
    if len(installed) > 1:
        found.problem = f"{' and '.join(installed)} overwrite each other's files"
        found.fix = _replace(name)
    elif not in_range(wanted, version):
        found.state = f'out of range: {wanted}'
        found.problem = f'{name} {version} is outside {wanted}'
        found.fix = _how_to_install(name) if name == 'mmcv' else f'pip install "{wanted}"'
    torch = distributions('torch').get('torch', '2.3')
    if name == 'numpy' and not in_range('numpy<2', version) and in_range('torch<2.3', torch):
        found.problem, found.usable = f'numpy {version}: torch {torch} needs numpy 1', False
        found.state, found.fix = 'too new for torch', 'pip install "numpy<2"'


def _replace(name: str) -> str:
    return f'pip uninstall -y {" ".join(distributions(name))}; {_how_to_install(name)}'


def _fix(name: str, error: Exception) -> str:
    absent = (getattr(error, 'name', None) or name).partition('.')[0]
    if 'libGL' in str(error):
        return 'pip install --no-deps --force-reinstall opencv-python-headless'
    if name == 'torchvision':
        return 'pip uninstall -y torchvision (not needed), or install the version for your torch'
    if name == 'mmcv' and absent == name:  # built without operators, or for another torch
        return f'pip cache remove "*mmcv*"; {_replace(name)}'
    return how_to_install(absent)


def _examine_operators(found: Finding) -> None:
    from mmcv.ops import get_compiling_cuda_version

    cuda = str(get_compiling_cuda_version())
    with_cuda = cuda[:1].isdigit()
    found.state = f'ok, operators for {f"CUDA {cuda}" if with_cuda else "the CPU"}'
    if _gpus() and not with_cuda:
        found.problem = "mmcv's operators were built for CPUs and cannot run on this GPU"
        found.fix, found.usable = _replace('mmcv'), False


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
    prebuilt = PREBUILT[line_in_use()] if name == 'mmcv' and _gpus() else ''
    return prebuilt + how_to_install(name)
