"""The packages that mmca works with: what they are called, and how to install them."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from importlib import import_module, metadata
from importlib.util import find_spec

from mmca.config.shipped import checkout
from mmca.errors import InputError

# Import name -> the maintained fork's name. OpenMMLab's own stopped in 2024.
FORKS = {
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
PINNED_PYTHON = (3, 11)  # the pins of requirements.txt have no wheels for older ones
# What a command needs that builds models or runs a library's tool.
FULL_STACK = ('torch', 'mmengine', 'mmcv', 'mmcv._ext')


def require(*names: str) -> None:
    """See to it that packages are installed.

    Args:
        names: import names; 'mmcv._ext' stands for mmcv's compiled operators.

    Raises:
        InputError: the first that is not, with the command that installs it.
    """
    for name in names:
        if find_spec(name) is not None:
            continue
        if name == 'mmcv._ext':
            raise InputError(
                'mmcv without its operators (mmcv-lite) is not enough; '
                '`mmca doctor` tells how to replace it'
            )
        raise InputError(f'{name} is not installed; {how_to_install(name)}')


def import_datasets(library: str) -> None:
    """Import a library's data sets without its words on optional packages that are not there.

    Args:
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
    """
    with redirect_stdout(io.StringIO()):
        import_module(f'{library}.datasets')


def how_to_install(name: str) -> str:
    """Tell how to install a package.

    Args:
        name: its import name.

    Returns:
        Where to run which command.
    """
    if checkout() is not None and sys.version_info[:2] >= PINNED_PYTHON:
        extra = EXTRAS.get(name)
        command = f'pip install -r requirements-{extra}.txt' if extra else 'make env'
        return f'run in the folder of mmca: {command}'
    if name == 'mmcv':
        # Its build needs the torch that is there, and what builds with it.
        return (
            'run: pip install "setuptools>=80" wheel ninja psutil && '
            f'pip install --no-build-isolation "{requirement(FORKS[name])}"'
        )
    return f'run: pip install "{requirement(FORKS.get(name, name))}"'


def requirement(distribution: str) -> str:
    """A distribution with the range that mmca's metadata give it, such as 'torch>=2.6'."""
    try:
        lines = metadata.requires('mmca') or ()
    except metadata.PackageNotFoundError:  # used from its folder
        lines = ()
    for line in lines:
        found = line.partition(';')[0].strip()
        if re.split(r'[<>=!~ ]', found)[0] == distribution:
            return found
    return distribution
