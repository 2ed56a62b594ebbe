"""Lets mmpretrain load without torchvision. Importing this module calls :func:`stand_in`.

mmpretrain imports torchvision for transforms named 'torchvision/...' and for phrase grounding,
which no config here uses, and does not declare it. A torchvision made for another torch does not
load and stops mmengine's runner, so none is better than the wrong one. configs/imagenet import this
module in `custom_imports`, since the library's own tool runs them.
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
    """A class or constant of torchvision; only its use fails."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise InputError(
            'this needs torchvision, which is not installed: install the one made for your torch'
        )


def stand_in() -> None:
    """Put empty modules in torchvision's place, for this process, where it is not installed.

    Called before mmpretrain is imported. Building one of its 'torchvision/...' transforms then
    raises an `InputError`.
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
