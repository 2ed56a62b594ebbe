"""Packages that mmca works with: their distributions, and how to install them."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from importlib import import_module, metadata
from importlib.util import find_spec

from mmca.config.shipped import checkout
from mmca.errors import InputError

FORKS = {  # import name -> the maintained fork; OpenMMLab's own packages ended in 2024
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
    'mmpretrain': 'onedl-mmpretrain',
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
    """Raise an `InputError` with the install command for the first package that is missing.

    Args:
        names: import names; 'mmcv._ext' stands for mmcv's compiled operators.
    """
    for name in names:
        if find_spec(name) is None and name == 'mmcv._ext':
            raise InputError('mmcv has no compiled operators; `mmca doctor` shows how to fix it')
        if find_spec(name) is None:
            raise InputError(f'{name} is not installed; {how_to_install(name)}')


def import_datasets(library: str) -> None:
    """Import the data sets of a library such as 'mmdet', without its hints on optional packages."""
    with redirect_stdout(io.StringIO()):
        import_module(f'{library}.datasets')


def how_to_install(name: str) -> str:
    """The command that installs a package, given its import name."""
    if checkout() is not None and sys.version_info[:2] >= PINNED_PYTHON:
        extra = EXTRAS.get(name)
        command = f'pip install -r requirements-{extra}.txt' if extra else 'make env'
        return f'run in the folder of mmca: {command}'
    if name == 'mmcv':  # builds against the installed torch
        return (
            'run: pip install "setuptools>=80" wheel ninja psutil && '
            f'pip install --no-build-isolation "{requirement(name)}"'
        )
    return f'run: pip install "{requirement(name)}"'


def requirement(name: str) -> str:
    """The version range of an imported package in mmca's metadata, such as 'torch<2.14,>=2.6'."""
    distribution = FORKS.get(name, name)
    try:
        lines = metadata.requires('mmca') or []
    except metadata.PackageNotFoundError:  # used from its folder
        lines = []
    ranges = {re.split(r'[^\w.-]', line)[0]: line.partition(';')[0].strip() for line in lines}
    return ranges.get(distribution, distribution)
