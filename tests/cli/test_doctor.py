"""mmca doctor: packages that are missing, broken, OpenMMLab's own or of another version."""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mmca.cli import doctor
from mmca.cli.main import main
from tests.helpers import ROOT

VERSIONS = {
    'torch': '2.9.0+cpu',
    'mmengine': '0.10.12',
    'mmcv': '2.3.6',
    'mmdet': '3.5.1',
    'mmseg': '1.4.2',
    'mmpretrain': '1.3.6',
    'pycocotools': '2.0.11',
}


@pytest.fixture
def machine(monkeypatch, capsys):
    """A machine with faked packages and GPUs; calling it returns exit code and output."""
    state = SimpleNamespace(
        versions=dict(VERSIONS), broken={}, distributions={}, gpus=[], cuda_of_mmcv='not available'
    )

    def distributions(name):
        found = doctor.FORKS.get(name, name)
        return state.distributions.get(name, [found] if name in state.versions else [])

    def load(module):
        name = module.partition('.')[0]
        if name in state.broken:
            raise state.broken[name]

    def ranges(name):
        known = {'torch': 'torch>=2.6', 'onedl-mmdetection': 'onedl-mmdetection>=3.5.1,<3.6'}
        return known.get(name, name)

    ops = ModuleType('mmcv.ops')
    ops.get_compiling_cuda_version = lambda: state.cuda_of_mmcv
    monkeypatch.setitem(sys.modules, 'mmcv.ops', ops)
    monkeypatch.setattr(doctor, '_distributions', distributions)
    monkeypatch.setattr(doctor, '_spec', lambda name: state.versions.get(name))
    monkeypatch.setattr(doctor, '_version', lambda name, *args: state.versions.get(name, '-'))
    monkeypatch.setattr(doctor, 'requirement', ranges)
    monkeypatch.setattr(doctor, 'import_module', load)
    monkeypatch.setattr(doctor.no_torchvision, 'stand_in', lambda: None)
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: None)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: len(state.gpus))
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda index: state.gpus[index])

    def run():
        code = main(['doctor'])
        return code, capsys.readouterr().out

    state.run = run
    return state


def row(out, name):
    (line,) = [line for line in out.splitlines() if line.startswith(f'{name} ')]
    return line.split(maxsplit=2)[1:]


def test_all_is_well(machine):
    code, out = machine.run()
    assert code == 0
    assert row(out, 'mmdet') == ['3.5.1', 'ok']
    assert row(out, 'mmcv') == ['2.3.6', 'ok, operators built for the CPU']
    assert row(out, 'torchvision') == ['-', 'not installed, not needed']
    assert 'no GPU that torch can use' in out
    assert out.count(': ready') == 3
    assert 'to fix' not in out


def test_the_classifiers_library_may_be_missing(machine):
    del machine.versions['mmpretrain']
    code, out = machine.run()
    assert code == 0
    assert 'classifiers (configs/imagenet): not ready: mmpretrain' in out
    assert 'pip install -r requirements-pretrain.txt' in out


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'pycocotools'])
def test_a_missing_package(machine, name):
    del machine.versions[name]
    code, out = machine.run()
    assert code == 1
    assert row(out, name) == ['-', 'not installed']
    assert f'- {name} is not installed\n' in out
    task = 'segmentors' if name == 'mmseg' else 'detectors'
    assert next(line for line in out.splitlines() if line.startswith(task)).endswith(f': {name}')


@pytest.mark.parametrize(
    ('name', 'error', 'problem', 'fix'),
    [
        (
            'mmcv',
            ImportError('_ext.so: undefined symbol: _ZN3c104cuda'),
            'mmcv 2.3.6 does not load: _ext.so: undefined symbol',
            'pip uninstall -y onedl-mmcv; pip cache remove onedl_mmcv; then',
        ),
        (
            'mmcv',
            ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext'),
            'mmcv is installed without its operators: mmcv-lite, or built without',
            'pip uninstall -y mmcv-lite onedl-mmcv-lite onedl-mmcv; pip cache remove onedl_mmcv',
        ),
        (
            'mmcv',
            ImportError('libGL.so.1: cannot open shared object file'),
            'libGL.so.1',
            'pip install --no-deps --force-reinstall opencv-python-headless',
        ),
        ('mmdet', RuntimeError('bad\nthings'), 'mmdet 3.5.1 does not load: bad things', 'make env'),
        (
            'mmseg',
            ModuleNotFoundError("No module named 'ftfy'", name='ftfy'),
            "No module named 'ftfy'",
            'install what it needs: ',
        ),
        ('torch', OSError('libcudart.so'), 'torch 2.9.0+cpu does not load', 'install it again'),
    ],
)
def test_a_package_that_does_not_load(machine, name, error, problem, fix):
    machine.broken[name] = error
    code, out = machine.run()
    assert code == 1
    assert row(out, name)[1] == 'does not load'
    assert problem in out
    assert fix in out.partition('to fix:')[2]


def test_a_torchvision_that_does_not_load_stops_everything(machine):
    machine.versions['torchvision'] = '0.24.0'
    machine.broken['torchvision'] = RuntimeError('operator torchvision::nms does not exist')
    code, out = machine.run()
    assert code == 1
    assert 'detectors (configs/coco): not ready: torchvision' in out
    assert 'pip uninstall -y torchvision' in out


def test_openmmlabs_own_packages(machine):
    machine.versions['mmdet'] = '3.3.0'
    machine.distributions['mmdet'] = ['mmdet']
    code, out = machine.run()
    assert code == 0
    assert row(out, 'mmdet') == ['3.3.0', "OpenMMLab's own mmdet"]
    assert 'maintained fork onedl-mmdetection' in out
    assert 'pip uninstall -y mmdet; ' in out


def test_a_version_out_of_range(machine):
    machine.versions['mmdet'] = '4.0.0'
    code, out = machine.run()
    assert code == 0
    assert row(out, 'mmdet')[1] == 'out of range: onedl-mmdetection>=3.5.1,<3.6'
    assert 'pip install "onedl-mmdetection>=3.5.1,<3.6"' in out


def test_a_gpu_needs_operators_built_for_it(machine):
    machine.gpus = [SimpleNamespace(name='NVIDIA X', total_memory=80 * 2**30)]
    code, out = machine.run()
    assert code == 1
    assert 'GPU 0: NVIDIA X, 80 GiB' in out
    assert "mmcv's operators were built for the CPU" in out
    machine.cuda_of_mmcv = '12.9'
    code, out = machine.run()
    assert code == 0
    assert row(out, 'mmcv') == ['2.3.6', 'ok, operators built for CUDA 12.9']


@pytest.mark.parametrize(
    ('python', 'version', 'prebuilt'),
    [
        ((3, 12, 1), '2.9.0+cu129', True),
        ((3, 10, 1), '2.8.0+cu128', True),
        ((3, 10, 1), '2.9.0', False),
        ((3, 11, 7), '2.9.0', False),
        ((3, 12, 1), '2.13.0', False),
    ],
)
def test_a_missing_mmcv_on_a_gpu_machine(machine, monkeypatch, python, version, prebuilt):
    machine.gpus = [SimpleNamespace(name='NVIDIA X', total_memory=80 * 2**30)]
    machine.versions['torch'] = version
    del machine.versions['mmcv']
    monkeypatch.setattr(doctor.sys, 'version_info', python)
    code, out = machine.run()
    assert code == 1
    assert f'\n    {doctor.MIM}\n' in out or not prebuilt
    advice = 'prebuilt mmcv is there for Python 3.12 with torch 2.9.0 for CUDA 12.9 or Python 3.10'
    assert (advice in out) == (not prebuilt)


def test_a_driver_that_torch_does_not_use(machine, monkeypatch):
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: '/usr/bin/nvidia-smi')
    code, out = machine.run()
    assert code == 0
    assert "an NVIDIA driver is installed and torch can't use it" in out


@pytest.mark.parametrize('hidden', [(), ('torch',)])
def test_in_a_bare_environment(tmp_path, hidden):
    """With torch alone, and without even that: nothing of the libraries can be imported."""
    code = f"""
import sys
from importlib import metadata
hidden = {{'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'pycocotools', *{hidden!r}}}
for name in hidden:
    sys.modules[name] = None
metadata.packages_distributions = dict
from mmca.cli import doctor
from mmca.config import packages
doctor._spec = lambda name: None if name in hidden else name
from mmca.cli.main import main
sys.exit(main(['doctor']))
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={'PYTHONPATH': str(ROOT), 'PATH': ''},
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == ''
    assert row(done.stdout, 'mmengine') == ['-', 'not installed']
    assert (row(done.stdout, 'torch')[1] == 'not installed') == bool(hidden)


def test_here_everything_that_is_installed_loads(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'mmca', 'doctor'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={'PYTHONPATH': str(ROOT), 'PATH': '', 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stdout
    assert 'does not load' not in done.stdout
