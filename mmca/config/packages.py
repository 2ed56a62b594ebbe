"""Packages that mmca works with: distributions, and commands that install them."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout, suppress
from importlib import import_module, metadata
from importlib.util import find_spec

from mmca.config.shipped import LIBRARIES, checkout
from mmca.errors import InputError

# Two lines of OpenMMLab with the same import names: the maintained forks, and its own packages,
# which ended in 2024. pyproject.toml has the same ranges.
LINES = {
    'onedl': {
        'torch': 'torch>=2.6,<2.14',
        'mmengine': 'onedl-mmengine>=0.10.12,<0.11',
        'mmcv': 'onedl-mmcv>=2.3.6,<2.4',
        'mmdet': 'onedl-mmdetection>=3.5.1,<3.6',
        'mmseg': 'onedl-mmsegmentation>=1.4.2,<1.5',
        'mmpretrain': 'onedl-mmpretrain>=1.3.6,<1.4',
    },
    'openmmlab': {
        'torch': 'torch>=2.1,<2.14',
        'mmengine': 'mmengine>=0.10.4,<0.11',
        'mmcv': 'mmcv>=2.0.1,<2.2',
        'mmdet': 'mmdet>=3.2,<3.4',
        'mmseg': 'mmsegmentation>=1.2,<1.3',
        'mmpretrain': 'mmpretrain>=1.2,<1.3',
    },
}
OPENMMLAB = ('mmengine', 'mmcv', *LIBRARIES)
MMCV_BUILD = {  # line -> commands that build mmcv for the installed torch
    'onedl': 'pip install "setuptools>=80" wheel ninja psutil && pip install',
    'openmmlab': 'pip install "setuptools<70" wheel ninja psutil && MMCV_WITH_OPS=1 pip install',
}
# Import name -> NAME of the requirements-NAME.txt that pins it; requirements.txt pins the others.
EXTRAS = {
    'mmpretrain': 'pretrain',
    'gradio': 'app',
    'onnx': 'export',
    'onnxscript': 'export',
    'onnxruntime': 'export',
}
PINNED_PYTHON = (3, 11)  # older ones lack wheels for the pins in requirements.txt
FULL_STACK = ('torch', 'mmengine', 'mmcv', 'mmcv._ext')  # to build models


def require(*names: str) -> None:
    """Raise an `InputError` with the install command for the first missing package.

    Args:
        names: import names; 'mmcv._ext' stands for mmcv's compiled operators. Those in `EXTRAS`
            need a fitting version, too.
    """
    for name in names:
        if find_spec(name) is None:
            if name == 'mmcv._ext':
                raise InputError(
                    'mmcv has no compiled operators; `mmca doctor` shows how to fix it'
                )
            raise InputError(f'{name} is not installed; {how_to_install(name)}')
        version = distributions(name).get(name) if name in EXTRAS else None
        if version and not in_range(requirement(name), version):
            raise InputError(f'{name} {version} is incompatible with mmca; {how_to_install(name)}')


def import_datasets(library: str) -> None:
    """Import the data sets of a library such as 'mmdet', without hints on optional packages."""
    with redirect_stdout(io.StringIO()):
        import_module(f'{library}.datasets')


def how_to_install(name: str) -> str:
    """The command that installs a package, by import name, to match what is installed."""
    line = line_in_use()
    if line == 'onedl' and checkout() is not None and sys.version_info[:2] >= PINNED_PYTHON:
        extra = EXTRAS.get(name)
        command = f'pip install -r requirements-{extra}.txt' if extra else 'make env'
        return f'run in the mmca checkout: {command}'
    if name == 'mmcv':
        return f'run: {MMCV_BUILD[line]} --no-build-isolation "{requirement(name)}"'
    return f'run: pip install "{requirement(name)}"'


def requirement(name: str, line: str = '') -> str:
    """The version range of an imported package, such as 'torch>=2.1'.

    Args:
        name: import name.
        line: a key of `LINES`; default the one in use.
    """
    ranges = LINES[line or line_in_use()]
    if name in ranges:
        return ranges[name]
    with suppress(metadata.PackageNotFoundError):  # used from its folder
        for wanted in reversed(metadata.requires('mmcirculant') or ()):
            if re.match(r'[\w.-]+', wanted)[0] == name:
                return wanted.partition(';')[0].strip()
    return name


def line_in_use() -> str:
    """The key of `LINES` with the most installed packages; for none, one that fits torch."""
    found = [line_of(one) for name in OPENMMLAB for one in distributions(name)]
    torch = distributions('torch').get('torch', '2.6')
    return max(LINES, key=lambda line: (found.count(line), in_range(LINES[line]['torch'], torch)))


def line_of(distribution: str) -> str:
    """The key of `LINES` that a distribution belongs to."""
    return 'onedl' if distribution.startswith('onedl-') else 'openmmlab'


def distributions(name: str) -> dict[str, str]:
    """The installed distributions that provide an imported package -> their versions."""
    known = [re.split(r'[<>=]', line.get(name, name))[0] for line in LINES.values()]
    lite = ['mmcv-lite', 'onedl-mmcv-lite', 'mmcv-full'] if name == 'mmcv' else []
    found = {}
    for distribution in (*known, *lite):
        with suppress(metadata.PackageNotFoundError):
            found[distribution] = metadata.version(distribution)
    return found


def in_range(wanted: str, version: str) -> bool:
    """Whether a version fits a requirement.

    Example:
        >>> in_range('torch>=2.6,<2.14', '2.13.0+cpu'), in_range('torch>=2.6,<2.14', '2.14.0')
        (True, False)
    """
    release = _numbers(version)
    compare = {'<': release.__lt__, '<=': release.__le__, '>=': release.__ge__}
    bounds = re.findall(r'([<>]=?)([\d.]+)', wanted)
    return all(compare[operator](_numbers(bound)) for operator, bound in bounds)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.match(r'[\d.]*\d', version)[0].split('.'))
