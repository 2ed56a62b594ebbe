"""Circulant Attention for dense prediction: an OpenMMLab plugin.

`mmca.ops` and `mmca.layers` need and import only torch. mmengine imports `mmca.registry`
automatically when a config contains a type such as 'mmca.CAPVT'.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

__version__ = '0.2.0'
_SUBMODULES = (
    'analysis',
    'backbones',
    'checkpoint',
    'config',
    'inference',
    'layers',
    'necks',
    'ops',
    'registry',
)


def __getattr__(name: str) -> ModuleType | Callable:
    if name == 'create_backbone':
        return import_module('mmca.backbones.catalog').create_backbone
    if name == 'find_config':  # for `_base_` in configs
        return import_module('mmca.config.shipped').find_config
    if name in _SUBMODULES:
        return import_module(f'mmca.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
