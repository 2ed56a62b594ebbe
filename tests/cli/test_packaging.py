"""A wheel from the source archive works outside the checkout; metafiles list every config."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import PurePosixPath

import pytest
import yaml

from mmca.config.packages import LINES
from mmca.config.shipped import config_names
from tests.helpers import ROOT

TOOLS = ('train.py', 'test.py', 'dist.sh', 'dist_train.sh', 'dist_test.sh')


def shipped_files():
    """What must be in mmca/.mim."""
    configs = [p for p in (ROOT / 'configs').rglob('*') if p.suffix in ('.py', '.yml')]
    names = {path.relative_to(ROOT).as_posix() for path in configs}
    return names | {f'tools/{name}' for name in TOOLS} | {'model-index.yml'}


def run(*command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(
    int(metadata.version('setuptools').partition('.')[0]) < 80, reason='needs setuptools 80'
)
def test_the_wheel_of_the_source_archive_works_outside_the_checkout(tmp_path):
    source = tmp_path / 'source'  # a copy: builds write into their folder
    not_read = ('.*', '__pycache__', 'build', 'data', 'docs', 'site', 'tests', 'work_dirs')
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*not_read))
    code = f'from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})'
    run(sys.executable, '-c', code, cwd=source)
    (archive,) = tmp_path.glob('mmcirculant-*.tar.gz')
    options = ('--no-deps', '--no-build-isolation', '-w', tmp_path)
    python = (sys.executable, '-m')
    run(*python, 'pip', 'wheel', archive, *options)
    (wheel,) = tmp_path.glob('mmcirculant-*.whl')
    wheel_name = '-'.join(wheel.name.split('-')[:2])
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
    assert {PurePosixPath(name).parts[0] for name in names} == {'mmca', f'{wheel_name}.dist-info'}
    assert script.external_attr >> 16 & 0o111  # executable
    assert 'mmca = mmca.cli.main:main' in scripts
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist: ')]
    assert [line for line in required if 'extra ==' not in line] == ['Requires-Dist: torch>=2.1']
    for line, ranges in LINES.items():  # as in the extra of the same name
        own = [one[15:].partition(';')[0] for one in required if f'"{line}"' in one]
        parts = {re.match(r'[\w-]+', one)[0]: set(re.findall('[<>][^,; ]+', one)) for one in own}
        for one in ranges.values():
            name = re.match(r'[\w-]+', one)[0]
            assert parts[name] == set(re.findall('[<>][^,; ]+', one))
    env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site')}
    file = run(*python, 'mmca', 'config', 'coco/maskrcnn_ca_pvt_s', cwd=tmp_path, env=env)
    assert file.startswith(f'{tmp_path}/site/mmca/.mim/configs/')
    code = 'from mmca.config.packages import how_to_install; print(how_to_install("gradio"))'
    fix = run(sys.executable, '-c', code, cwd=tmp_path, env=env)
    assert fix == 'run: pip install "gradio<7,>=6.31"'  # the range of the extra, in the wheel


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
