"""The layout of mmca: what each part needs, and the direction of its imports."""

import ast
import sys
from pathlib import Path

import pytest

from mmca.layers import registered_attentions
from tests.helpers import python

ROOT = Path(__file__).parents[1] / 'mmca'
FILES = sorted(ROOT.rglob('*.py'))
# What a part may import of mmca (besides itself and errors), and of third-party packages:
# errors, io <- ops <- layers <- checkpoint <- backbones, necks <- checks, engine, config,
# inference, export, analysis, distill <- cli.
MM = {'torch', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain'}
CORE = {'io', 'ops', 'layers', 'checkpoint', 'registry', 'backbones', 'necks'}
ALLOWED = {
    'errors.py': (set(), set()),
    'io.py': (set(), {'numpy', 'cv2', 'mmcv', 'PIL'}),
    'ops': (set(), {'torch'}),
    'layers': ({'ops'}, {'torch'}),
    'checkpoint': ({'io', 'ops', 'layers'}, {'torch', 'safetensors'}),
    'registry.py': (set(), {'mmengine'}),
    'backbones': ({'ops', 'layers', 'checkpoint', 'registry'}, {'torch', 'mmengine'}),
    'necks': ({'registry'}, {'torch', 'mmengine'}),
    'analysis': (CORE | {'config'}, MM | {'matplotlib', 'cv2'}),
    'config': (CORE | {'engine'}, MM | {'yaml', 'yapf', 'PIL', 'rich'}),
    'checks': (CORE | {'config'}, MM | {'PIL', 'rich'}),
    'engine': (CORE | {'config', 'checks'}, MM | {'yaml'}),
    'inference': (
        CORE | {'config', 'analysis'},
        MM | {'cv2', 'PIL', 'pycocotools', 'gradio', 'rich', 'matplotlib'},
    ),
    'export': (
        CORE | {'config', 'analysis', 'inference'},
        MM | {'cv2', 'onnx', 'onnxscript', 'onnxruntime'},
    ),
    'distill': (CORE | {'config', 'engine', 'analysis'}, MM),
    '__init__.py': (set(), set()),
    '__main__.py': ({'cli'}, set()),
}
UNBOUND = {'cli'}  # imports whatever it needs, and nothing imports it


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
    if part in UNBOUND:
        return
    ours, theirs = ALLOWED[part]
    for name in imports(path):
        package, _, rest = name.partition('.')
        if package == 'mmca':
            target = rest.partition('.')[0]
            own = {part.removesuffix('.py'), 'errors', '', '__version__'}
            assert target in ours | own, f'{part} imports {name}'
        else:
            assert package in theirs | sys.stdlib_module_names, f'{part} imports {name}'


def test_every_attention_is_one_file_that_only_its_registration_names():
    """Outside of mmca.layers nothing names the class or the file of an attention."""
    classes = registered_attentions().values()
    modules, names = {cls.__module__ for cls in classes}, {cls.__name__ for cls in classes}
    for path in FILES:
        if path.parent.name == 'layers':
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        used |= {alias.name for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
        assert not modules & set(imports(path)), path
        assert not names & used, path


def test_nothing_of_another_package_is_assigned_to():
    """No `module.name = ...` on what a file imports from elsewhere; no `f_locals`."""
    for path in FILES:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        foreign = {
            alias.asname or alias.name.partition('.')[0]
            for node in nodes
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
            if not f'{getattr(node, "module", None) or alias.name}'.startswith('mmca')
        }
        for node in (node for node in nodes if isinstance(node, ast.Attribute)):
            assert node.attr != 'f_locals', path
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(node.ctx, ast.Store) and isinstance(owner, ast.Name):
                argv = path.name == 'launch.py' and (owner.id, node.attr) == ('sys', 'argv')
                assert argv or owner.id not in foreign, (path, node.lineno)


def test_no_transform_writes_into_a_given_tensor():
    """On torch 2.1 `torch.fft.irfft2(out=...)` has damaged memory."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and '.fft.' in ast.unparse(node.func):
                assert 'out' not in {keyword.arg for keyword in node.keywords}, (path, node.lineno)


def run(code):
    done = python('-c', code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_layers_work_with_torch_alone():
    """Everything else is hidden, as in a bare environment."""
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
    assert run(code) == '(1, 15, 8)'


def test_layers_import_nothing_but_torch():
    code = 'import sys, mmca; mmca.layers, mmca.analysis, mmca.checkpoint; print(*sys.modules)'
    loaded = {name.partition('.')[0] for name in run(code).split()}
    assert not loaded & {'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain'}


def test_mmengine_finds_every_kind_of_component_by_itself():
    """A config needs no custom_imports for types that begin with 'mmca.'."""
    kinds = {
        'MODELS': ('CAPVT', 'NormPool', 'Distiller'),
        'HOOKS': ('SeedHook', 'DistillationReportHook'),
        'OPTIM_WRAPPER_CONSTRUCTORS': ('OptimWrapperConstructor',),
    }
    code = 'from mmengine import registry\n'
    for kind, names in kinds.items():
        code += ''.join(f'assert registry.{kind}.get("mmca.{name}")\n' for name in names)
    run(code)


OTHER_SYSTEM = """
import importlib, os, pkgutil, signal, sys
for name in ('torch', 'mmengine.runner', 'mmdet.apis', 'mmseg.apis', 'matplotlib.pyplot'):
    importlib.import_module(name)
sys.modules.update(dict.fromkeys(('resource', 'fcntl')))
del signal.sigtimedwait, signal.pthread_sigmask, os.fork, os.sched_getaffinity
import mmca
from mmca.ops.compat import HAS_NODES
for module in pkgutil.walk_packages(mmca.__path__, 'mmca.'):
    if module.name in ('mmca.export.box_ops', 'mmca.export.detector') and not HAS_NODES:
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert error.name in ('gradio', 'mmpretrain'), module.name
"""


def test_every_module_imports_without_what_only_linux_has():
    run(OTHER_SYSTEM)
