"""The examples in docstrings run, and public classes and ops have one."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import mmca
from mmca import layers, ops
from mmca.ops.compat import HAS_NODES

MODULES = [
    module.name
    for module in pkgutil.walk_packages(mmca.__path__, 'mmca.')
    if not module.name.startswith(('mmca.cli', 'mmca.__main__'))
]

NEED_NODES = ('mmca.export.box_ops', 'mmca.export.detector')


@pytest.mark.parametrize('name', MODULES)
def test_examples_run(name):
    if name == 'mmca.inference.app_page':
        pytest.importorskip('gradio')
    if name in NEED_NODES and not HAS_NODES:
        pytest.skip('needs torch.library.custom_op')
    module = import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


@pytest.mark.parametrize('item', [*ops.__all__, *layers.__all__])
def test_public_names_have_an_example(item):
    module = ops if hasattr(ops, item) else layers
    assert '>>>' in getattr(module, item).__doc__
