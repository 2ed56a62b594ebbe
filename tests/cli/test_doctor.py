"""mmca doctor, in environments made of fake packages that lie in a folder."""

import os

import pytest

from tests.helpers import ROOT, python

PACKAGES = {  # import name -> distribution, version, modules
    'numpy': ('numpy', '2.2.6', ''),
    'torch': ('torch', '2.9.0', ''),
    'mmengine': ('onedl-mmengine', '0.10.12', 'runner'),
    'mmcv': ('onedl-mmcv', '2.3.6', 'ops'),
    'mmdet': ('onedl-mmdetection', '3.5.1', 'models datasets'),
    'pycocotools': ('pycocotools', '2.0.11', 'mask'),
    'mmseg': ('onedl-mmsegmentation', '1.4.2', 'models datasets'),
}
UPSTREAM = {  # OpenMMLab's own
    'numpy': ('numpy', '1.26.4'),
    'torch': ('torch', '2.1.2'),
    'mmengine': ('mmengine', '0.10.7'),
    'mmcv': ('mmcv', '2.1.0'),
    'mmdet': ('mmdet', '3.3.0'),
    'mmseg': ('mmsegmentation', '1.2.2'),
}
TORCH = """
class cuda:
    device_count = lambda: {gpus}
    class get_device_properties:
        def __init__(self, index): self.name, self.total_memory = 'NVIDIA X', 80 * 2**30
"""


@pytest.fixture
def machine(tmp_path):
    """An environment; calling it returns exit status and output of `mmca doctor` there."""

    def install(name, distribution, version, code=''):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / '__init__.py').write_text(code)
        info = tmp_path / f'{distribution.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Name: {distribution}\nVersion: {version}\n')
        (info / 'top_level.txt').write_text(name)

    def run(broken=(), gpus=0, cuda='not available', without=(), versions=(), also=()):
        for name, (distribution, version, modules) in PACKAGES.items():
            if name not in without:
                install(name, *dict(versions).get(name, (distribution, version)))
                for module in modules.split():
                    (tmp_path / name / f'{module}.py').write_text('')
        for name, code in dict(broken).items():
            if not (tmp_path / name).exists():
                install(name, name, '1.0')
            (tmp_path / name / '__init__.py').write_text(code)
        if also:
            install(*also)
        if 'torch' not in without and 'torch' not in dict(broken):
            (tmp_path / 'torch/__init__.py').write_text(TORCH.format(gpus=gpus))
        if 'mmcv' not in without:
            ops = f'def get_compiling_cuda_version(): return {cuda!r}'
            (tmp_path / 'mmcv/ops.py').write_text(ops)
        # -S leaves out the packages of the environment that runs the tests.
        env = {'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}', 'PATH': ''}
        done = python('-S', '-m', 'mmca', 'doctor', env=env)
        assert done.stderr == ''
        return done.returncode, done.stdout

    return run


def row(out, name):
    (line,) = [line for line in out.splitlines() if line.startswith(f'{name} ')]
    return line.split(maxsplit=2)[1:]


def test_all_is_well_without_the_classifiers_library(machine):
    code, out = machine()
    assert code == 0
    assert row(out, 'mmdet') == ['3.5.1', 'ok']
    assert row(out, 'mmcv') == ['2.3.6', 'ok, operators for the CPU']
    assert row(out, 'torchvision') == ['-', 'not installed, not needed']
    assert 'detectors: ready\nsegmentors: ready\nclassifiers: not ready: mmpretrain\n' in out
    assert 'requirements-pretrain.txt' in out or 'onedl-mmpretrain' in out


@pytest.mark.parametrize('names', [*([name] for name in PACKAGES), [*PACKAGES]], ids=len)
def test_missing_packages(machine, names):
    code, out = machine(without=names)
    assert code == 1
    for name in names:
        assert row(out, name) == ['-', 'not installed']
    needed = [name for name in names if name != 'mmseg'] or names
    task = 'segmentors' if needed == ['mmseg'] else 'detectors'
    assert f'\n{task}: not ready: {", ".join(needed)}\n' in out


@pytest.mark.parametrize(
    ('name', 'code', 'problem', 'fix'),
    [
        ('mmcv', 'import mmcv._ext', "No module named 'mmcv._ext'", 'pip uninstall -y onedl-mmcv'),
        ('mmcv', 'raise ImportError("_ext.so: undefined symbol")', 'undefined symbol', 'pip cache'),
        ('mmcv', 'raise ImportError("libGL.so.1")', 'libGL.so.1', 'opencv-python-headless'),
        ('mmdet', 'raise RuntimeError("bad\\nthings")', 'mmdet does not load: bad things', ''),
        ('mmseg', 'import ftfy', "No module named 'ftfy'", ''),
        ('torch', 'raise OSError("libcudart.so")', 'torch does not load: libcudart.so', ''),
        ('torchvision', 'raise RuntimeError("no nms")', 'no nms', 'pip uninstall -y torchvision'),
    ],
)
def test_a_package_that_does_not_load(machine, name, code, problem, fix):
    status, out = machine(broken={name: code})
    assert status == 1
    assert row(out, name)[1] == 'does not load'
    assert problem in out
    assert fix in out.partition('to fix:')[2]


def test_openmmlabs_own_packages_are_as_good(machine):
    code, out = machine(versions=UPSTREAM)
    assert code == 0
    assert row(out, 'mmdet') == ['3.3.0', "ok, OpenMMLab's own"]
    assert row(out, 'torch') == ['2.1.2', 'ok']
    assert '- mmpretrain is not installed, optional\n    run: pip install "mmpretrain>=1.2' in out
    assert out.count('\n- ') == 1


REFUSES_MMCV = 'raise AssertionError("MMCV==2.2.0 is used but incompatible")'


@pytest.mark.parametrize(
    ('versions', 'broken', 'fix'),
    [
        # Out of range, and mmdet refuses it.
        ({**UPSTREAM, 'mmcv': ('mmcv', '2.2.0')}, {'mmdet': REFUSES_MMCV}, '"mmcv>=2.0.1,<2.2"'),
        # One library of the other line: the fewest change.
        ({**UPSTREAM, 'mmcv': ('onedl-mmcv', '2.3.6')}, {'mmdet': REFUSES_MMCV}, '"mmcv>=2.0.1'),
        ({'mmdet': ('mmdet', '3.3.0')}, {'mmdet': REFUSES_MMCV}, 'pip uninstall -y mmdet; '),
        ({**UPSTREAM, 'numpy': ('numpy', '2.2.6')}, {'mmengine': 'import x'}, '"numpy<2"'),
        (UPSTREAM, {'mmcv': 'import mmcv._ext'}, 'pip uninstall -y mmcv; run: pip install "setup'),
    ],
    ids=['mmcv 2.2', 'mmcv of the forks', "OpenMMLab's mmdet", 'numpy 2', 'no operators'],
)
def test_what_does_not_go_together_needs_one_change(machine, versions, broken, fix):
    code, out = machine(versions=versions, broken=broken)
    assert code == 1
    found = [line for line in out.splitlines() if line.startswith('    ')]
    assert fix in found[0]
    assert len(found) == 2  # the other one is for mmpretrain, which is optional


def test_two_libraries_of_one_name(machine):
    code, out = machine(also=('mmengine', 'mmengine', '0.10.7'))
    assert code == 0
    assert "onedl-mmengine and mmengine overwrite each other's files" in out
    assert '    pip uninstall -y onedl-mmengine mmengine; ' in out


def test_without_libraries_the_line_is_one_that_fits_torch(machine):
    code, out = machine(without=list(PACKAGES)[2:], versions=UPSTREAM)
    assert code == 1
    assert row(out, 'torch') == ['2.1.2', 'ok']
    assert 'run: pip install "mmdet>=3.2,<3.4"' in out


@pytest.mark.parametrize(('cuda', 'code'), [('not available', 1), ('12.9', 0)])
def test_a_gpu_needs_operators_built_for_it(machine, cuda, code):
    status, out = machine(gpus=1, cuda=cuda)
    assert status == code
    assert 'NVIDIA X, 80 GiB' in out
    assert ("mmcv's operators were built for CPUs" in out) == bool(code)
    assert ('mim install --only-binary=onedl-mmcv' in out) == bool(code)


def test_here_everything_loads():
    done = python('-m', 'mmca', 'doctor')
    assert done.returncode == 0, done.stdout
    assert 'does not load' not in done.stdout
