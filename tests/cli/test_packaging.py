"""The wheel works outside the checkout, the source archive builds, metafiles list every config."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

import pytest
import yaml

from mmca.config.shipped import config_names
from tests.helpers import ROOT

TOOLS = ('train.py', 'test.py', 'dist.sh', 'dist_train.sh', 'dist_test.sh')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what a build reads, so that it leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp('source')
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for part in ('configs', 'mmca', 'tools'):
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def shipped_files():
    """What must be in mmca/.mim."""
    configs = [p for p in (ROOT / 'configs').rglob('*') if p.suffix in ('.py', '.yml')]
    names = {path.relative_to(ROOT).as_posix() for path in configs}
    return names | {f'tools/{name}' for name in TOOLS} | {'model-index.yml'}


def test_the_wheel_works_outside_the_checkout(source, tmp_path):
    command = [sys.executable, '-m', 'pip', 'wheel', str(source), '--no-deps', '-w', str(tmp_path)]
    done = subprocess.run([*command, '--no-build-isolation'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob('mmca-*.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name for name in names if name.endswith('.dist-info/METADATA'))
        metadata = archive.read(info).decode()
        scripts = archive.read(info.replace('METADATA', 'entry_points.txt')).decode()
        script = archive.getinfo('mmca/.mim/tools/dist_train.sh')
        archive.extractall(tmp_path / 'site')
    mim = {name.removeprefix('mmca/.mim/') for name in names if name.startswith('mmca/.mim/')}
    assert mim == shipped_files()
    modules = {path.relative_to(source).as_posix() for path in (source / 'mmca').rglob('*.py')}
    assert modules | {'mmca/py.typed'} <= names
    assert {PurePosixPath(name).parts[0].partition('-')[0] for name in names} == {'mmca'}
    assert script.external_attr >> 16 & 0o111  # executable
    assert 'mmca = mmca.cli.main:main' in scripts
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist: ')]
    assert [line for line in required if 'extra ==' not in line] == ['Requires-Dist: torch>=2.6']
    for extra in ('det', 'seg', 'cls'):  # their libraries declare neither
        own = ' '.join(line for line in required if f'"{extra}"' in line)
        assert 'onedl-mmcv<' in own
        assert 'onedl-mmengine<' in own
    env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site')}
    command = [sys.executable, '-m', 'mmca', 'config', 'coco/maskrcnn_ca_pvt_s']
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.strip().startswith(f'{tmp_path}/site/mmca/.mim/configs/'), done.stderr


def test_the_source_archive_can_build_the_wheel(source, tmp_path):
    code = f'from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})'
    done = subprocess.run([sys.executable, '-c', code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob('mmca-*.tar.gz')
    with tarfile.open(archive) as tar:
        names = {name.partition('/')[2] for name in tar.getnames()}
    assert shipped_files() | {'setup.py', 'mmca/py.typed'} <= names


def test_metafiles_list_every_config_once():
    files = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    found = ROOT.glob('configs/*/metafile.yml')
    assert sorted(files) == sorted(path.relative_to(ROOT).as_posix() for path in found)
    names, collections = [], []
    for file in files:
        content = yaml.safe_load((ROOT / file).read_text())
        own = [item['Name'] for item in content['Collections']]
        collections += own
        for model in content['Models']:
            path = PurePosixPath(model['Config'])
            assert path.parts[:2] == PurePosixPath(file).parts[:2]
            assert path.stem == model['Name']
            assert model['In Collection'] in own
            for result in model.get('Results', ()):  # ours have a log
                assert result['Source'] == 'paper' or (ROOT / result['Log']).is_file()
            names.append('/'.join(path.with_suffix('').parts[1:]))
    assert sorted(names) == config_names()
    assert len(set(collections)) == len(collections)
