"""Report versions and devices, what is missing or does not fit together, and how to fix it.

Needs nothing, not even torch. Ends with the exit code 0 where detectors and segmentors can be
trained and tested, else 1.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import mmca
from mmca.engine import no_torchvision
from mmca.config.packages import FORKS, how_to_install, requirement
from mmca.config.shipped import checkout

REQUIRES = ()
# Task -> the packages that it needs, in the order of their imports, and whether it counts for the
# exit code.
TASKS = {
    'detectors (configs/coco)': (('torch', 'mmengine', 'mmcv', 'mmdet', 'pycocotools'), True),
    'segmentors (configs/ade20k)': (('torch', 'mmengine', 'mmcv', 'mmseg'), True),
    'classifiers (configs/imagenet)': (('torch', 'mmengine', 'mmcv', 'mmpretrain'), False),
}
# What to import to know that a package loads; torchvision is not needed, but mmengine imports it
# where it is installed.
LOADED = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'mmengine': ('mmengine.runner',),
    'mmcv': ('mmcv', 'mmcv.ops'),
    'mmdet': ('mmdet.models', 'mmdet.datasets'),
    'pycocotools': ('pycocotools.mask',),
    'mmseg': ('mmseg.models', 'mmseg.datasets'),
    'mmpretrain': ('mmpretrain.models', 'mmpretrain.datasets'),
}
OPTIONAL = {'torchvision': 'not needed', 'mmpretrain': 'needed for configs/imagenet only'}
# Prebuilt wheels of onedl-mmcv 2.3.6: Python -> the torch and its CUDA that they are built for.
PREBUILT = {(3, 12): ('2.9.0', '12.9'), (3, 10): ('2.8.0', '12.8')}
# Without --only-binary mim falls back to a build without operators.
MIM = 'pip install onedl-mim && mim install --only-binary=onedl-mmcv onedl-mmcv==2.3.6'
LAST_TORCH = (2, 13)  # newer ones need C++20, which onedl-mmcv's build does not ask for
HEADLESS = 'pip install --no-deps --force-reinstall opencv-python-headless'
CLEAN = 'pip cache remove onedl_mmcv; then'
REBUILD = f'pip uninstall -y onedl-mmcv; {CLEAN}'


@dataclass
class Finding:
    """What is known of one package.

    Attributes:
        name: its import name.
        version: its version, or '-'.
        state: what to know of it, in words.
        problem: what is wrong, in one sentence, or ''.
        fix: the command that fixes it.
        fatal: whether nothing that needs the package works.
    """

    name: str
    version: str = '-'
    state: str = 'ok'
    problem: str = ''
    fix: str = ''
    fatal: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the report; returns the exit code."""
    devices = _devices()
    findings = [_examine(name, gpu=bool(devices.gpus)) for name in LOADED]
    place = checkout()
    print(f'mmca {mmca.__version__} in {place or Path(mmca.__file__).parent}')
    print(f'Python {platform.python_version()}, {sys.executable}')
    print(f'\n{"package":14}{"version":16}state')
    for finding in findings:
        print(f'{finding.name:14}{finding.version:16}{finding.state}')
    print(f'\ndevices: {devices.cores} CPU cores')
    for gpu in devices.gpus or ['no GPU that torch can use']:
        print(f'  {gpu}')
    fatal = {finding.name for finding in findings if finding.fatal}
    ready = True
    print()
    for task, (packages, counts) in TASKS.items():
        lacking = [name for name in (*packages, 'torchvision') if name in fatal]
        print(f'{task}: {"not ready: " + ", ".join(lacking) if lacking else "ready"}')
        ready = ready and not (counts and lacking)
    problems = [(f.problem, f.fix) for f in findings if f.problem] + devices.problems
    if problems:
        print('\nto fix:')
    for fix in dict.fromkeys(fix for _, fix in problems):
        print(f'- {"; ".join(problem for problem, own in problems if own == fix)}')
        print(f'    {fix}')
    return 0 if ready else 1


def _examine(name: str, gpu: bool) -> Finding:
    """Find a package, load it, and compare it with what mmca works with."""
    if name == 'mmpretrain':
        no_torchvision.stand_in()
    distributions = _distributions(name)
    if not distributions and _spec(name) is None:
        return _missing(name, gpu)
    finding = Finding(name, version=_version(name, distributions))
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # some greet
            for module in LOADED[name]:
                import_module(module)
    except Exception as error:  # a broken installation raises anything
        return _broken(finding, error)
    if name == 'torch':
        finding.state = _torch_build()
    elif name == 'mmcv':
        _look_at_operators(finding, gpu)
    if not finding.problem:
        _compare(finding, distributions)
    return finding


def _spec(name: str) -> object:
    try:
        return find_spec(name)
    except ValueError:  # a module that was put into sys.modules by hand
        return None


def _distributions(name: str) -> list[str]:
    """The installed distributions that have a package of this import name."""
    return sorted(set(metadata.packages_distributions().get(name, ())))


def _version(name: str, distributions: list[str]) -> str:
    ours = FORKS.get(name, name)
    chosen = ours if ours in distributions or not distributions else distributions[0]
    try:
        return metadata.version(chosen)
    except metadata.PackageNotFoundError:
        return getattr(sys.modules.get(name), '__version__', '?')


def _missing(name: str, gpu: bool) -> Finding:
    if name == 'torchvision':
        return Finding(name, state=f'not installed, {OPTIONAL[name]}')
    finding = Finding(name, state='not installed', fatal=True)
    finding.problem = f'{name} is not installed'
    if name in OPTIONAL:
        finding.problem += f' ({OPTIONAL[name]})'
    if name == 'mmcv':
        finding.fix = _mmcv_for_gpus() if gpu else _build_mmcv()
    elif name == 'torch':
        finding.fix = f"install {_range(name)} as PyTorch's site says for your system"
    else:
        finding.fix = how_to_install(name)
    return finding


def _broken(finding: Finding, error: Exception) -> Finding:
    """What is installed and does not load; the reasons known so far have a fix of their own."""
    text = ' '.join(str(error).split()) or type(error).__name__
    name = finding.name
    finding.state, finding.fatal = 'does not load', True
    finding.problem = f'{name} {finding.version} does not load: {text[:200]}'
    absent = getattr(error, 'name', None)
    if 'libGL' in text or 'libgthread' in text:
        finding.fix = HEADLESS
    elif name == 'torchvision':
        finding.fix = 'pip uninstall -y torchvision (not needed), or install the one for your torch'
    elif name == 'mmcv' and absent == 'mmcv._ext':
        finding.problem = (
            'mmcv is installed without its operators: mmcv-lite, or built without '
            '--no-build-isolation'
        )
        finding.fix = (
            f'pip uninstall -y mmcv-lite onedl-mmcv-lite onedl-mmcv; {CLEAN} {_build_mmcv()}'
        )
    elif name == 'mmcv':  # built for another torch, as a rule
        finding.fix = f'{REBUILD} {how_to_install(name)}'
    elif isinstance(error, ModuleNotFoundError) and absent and absent.split('.')[0] != name:
        finding.fix = f'install what it needs: {how_to_install(absent.split(".")[0])}'
    else:
        finding.fix = f'install it again: {how_to_install(name)}'
    return finding


def _compare(finding: Finding, distributions: list[str]) -> None:
    """Tell OpenMMLab's own packages and versions out of the range that mmca works with."""
    name = finding.name
    fork = FORKS.get(name)
    others = [found for found in distributions if not found.startswith('onedl-')]
    if fork and others:
        finding.state = f"OpenMMLab's own {others[0]}"
        finding.problem = (
            f"{others[0]} is OpenMMLab's own package, of 2024 or before; mmca is tried with its "
            f'maintained fork {fork}'
        )
        finding.fix = f'pip uninstall -y {" ".join(distributions)}; {how_to_install(name)}'
        return
    wanted = _range(name)
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return
    if not Requirement(wanted).specifier.contains(finding.version, prereleases=True):
        finding.state = f'out of range: {wanted}'
        finding.problem = f'{name} {finding.version} is not {wanted}, which mmca works with'
        finding.fix = f'pip install "{wanted}"'


def _range(name: str) -> str:
    return requirement(FORKS.get(name, name))


def _torch_build() -> str:
    import torch

    cuda = getattr(torch.version, 'cuda', None)
    hip = getattr(torch.version, 'hip', None)
    return f'ok, built for {f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "the CPU"}'


def _look_at_operators(finding: Finding, gpu: bool) -> None:
    """Whether mmcv's compiled operators run on the GPU that is here."""
    from mmcv.ops import get_compiling_cuda_version

    cuda = str(get_compiling_cuda_version())
    with_cuda = cuda[:1].isdigit()
    finding.state = f'ok, operators built for {f"CUDA {cuda}" if with_cuda else "the CPU"}'
    if gpu and not with_cuda:
        finding.fatal = True
        finding.problem = "mmcv's operators were built for the CPU and cannot run on the GPU here"
        finding.fix = f'pip uninstall -y onedl-mmcv; {_mmcv_for_gpus()}'


def _mmcv_for_gpus() -> str:
    """The way to an mmcv with CUDA operators, for this Python and this torch."""
    version = _version('torch', ['torch']).partition('+')[0]
    if PREBUILT.get(sys.version_info[:2], ('',))[0] == version:
        return MIM
    offers = ' or '.join(
        f'Python {major}.{minor} with torch {torch} for CUDA {cuda}'
        for (major, minor), (torch, cuda) in PREBUILT.items()
    )
    return (
        f'prebuilt mmcv is there for {offers}: make such an environment, then {MIM}. Or build it '
        f"here, with torch's CUDA toolkit (nvcc): {_build_mmcv()}"
    )


def _build_mmcv() -> str:
    """The way to build mmcv for this torch."""
    numbers = _version('torch', ['torch']).split('.')[:2]
    if all(n.isdigit() for n in numbers) and tuple(map(int, numbers)) > LAST_TORCH:
        newest = '.'.join(map(str, LAST_TORCH))
        return (
            f'onedl-mmcv builds with torch up to {newest}: pip install torch=={newest}.0, then '
            f'{how_to_install("mmcv")}'
        )
    return how_to_install('mmcv')


@dataclass
class _Devices:
    cores: int
    gpus: list[str]
    problems: list[tuple[str, str]]


def _devices() -> _Devices:
    """What torch can compute on."""
    affinity = getattr(os, 'sched_getaffinity', None)
    found = _Devices(len(affinity(0)) if affinity else os.cpu_count() or 1, [], [])
    try:
        import torch

        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory = device.total_memory / 2**30
            found.gpus.append(f'GPU {index}: {device.name}, {memory:.0f} GiB')
    except Exception:  # torch is missing or broken, which its own row tells
        return found
    if not found.gpus and shutil.which('nvidia-smi'):
        built = torch.version.cuda
        found.problems.append(
            (
                "an NVIDIA driver is installed and torch can't use it: "
                + (f'torch is built for CUDA {built}' if built else 'torch is built for the CPU'),
                'install torch for the CUDA of your driver (nvidia-smi shows it), then mmcv again',
            )
        )
    return found
