"""Lets mmpretrain load without torchvision. Importing this module calls :func:`stand_in`.

mmpretrain needs torchvision only for its 'torchvision/...' transforms, but always imports it and
does not declare it. PyPI's builds do not load beside a CPU build of torch. Configs that the
library's own tool runs import this module in `custom_imports`.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec

from mmca.errors import InputError

MODULES = (
    'torchvision',
    'torchvision.ops',
    'torchvision.ops.boxes',
    'torchvision.transforms',
    'torchvision.transforms.functional',
    'torchvision.transforms.transforms',
)


class _Absent:
    """A class of torchvision; only its use fails."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise InputError(
            'this needs torchvision, which is not installed: install the version for your torch'
        )


def stand_in() -> None:
    """Put empty modules in torchvision's place where it is not installed.

    Building one of its transforms then raises an `InputError`.
    """
    if 'torchvision' in sys.modules or find_spec('torchvision') is not None:
        return
    for name in MODULES:
        module = sys.modules[name] = module_from_spec(ModuleSpec(name, None, is_package=True))
        parent, _, child = name.rpartition('.')
        if parent:
            setattr(sys.modules[parent], child, module)
    sys.modules['torchvision'].__version__ = 'not installed'
    sys.modules['torchvision.transforms'].RandomResizedCrop = _Absent
    sys.modules['torchvision.transforms.transforms'].InterpolationMode = _Absent


stand_in()
