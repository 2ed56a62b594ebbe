"""The house: which part of mmca needs what, and the arrows between its parts."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / 'mmca'
FILES = sorted(ROOT.rglob('*.py'))
# What a part may import of mmca (besides itself and errors), and of other people's packages.
ALLOWED = {
    'errors.py': (set(), set()),
    'ops': (set(), {'torch', 'triton'}),
    'layers': ({'ops'}, {'torch'}),
    'analysis': ({'ops', 'layers'}, {'torch'}),
    'safe_pickle.py': (set(), {'torch'}),
    'dialects.py': (set(), {'torch'}),
    'transfer.py': ({'layers'}, {'torch'}),
    'checkpoint.py': (
        {'dialects', 'layers', 'safe_pickle', 'transfer'},
        {'torch', 'safetensors'},
    ),
    'registry.py': (set(), {'mmengine'}),
    'hooks.py': ({'registry'}, {'torch', 'mmengine', 'numpy'}),
    'backbones': ({'ops', 'layers', 'checkpoint', 'registry'}, {'torch', 'mmengine', 'mmcv'}),
    'necks': ({'registry'}, {'torch', 'mmengine'}),
    '__init__.py': ({'backbones', 'hooks', 'necks'}, set()),
}


def imports(path):
    """Dotted names of everything that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'relative import in {path}'
            whole = node.module == 'mmca'
            yield from (f'mmca.{a.name}' for a in node.names) if whole else (node.module,)


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_go_one_way(path):
    part = path.relative_to(ROOT).parts[0]
    ours, theirs = ALLOWED[part]
    for name in imports(path):
        package, _, rest = name.partition('.')
        if package == 'mmca':
            target = rest.partition('.')[0]
            assert target in ours | {part.removesuffix('.py'), 'errors'}, f'{part} imports {name}'
        else:
            assert package in theirs | sys.stdlib_module_names, f'{part} imports {name}'


def test_layers_work_with_torch_alone(tmp_path):
    """mmengine, mmcv, mmdet, mmseg and numpy's friends hidden, as in a bare environment."""
    code = """
import importlib.util, sys
real = importlib.util.find_spec
hidden = {'mmengine', 'mmcv', 'mmdet', 'mmseg', 'timm', 'torchvision'}
importlib.util.find_spec = lambda name, *a: None if name in hidden else real(name, *a)
for name in hidden:
    sys.modules[name] = None
import torch
from mmca.layers import CirculantAttention
print(tuple(CirculantAttention(8)(torch.randn(1, 15, 8), (3, 5)).shape))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout.strip() == '(1, 15, 8)', result.stderr
