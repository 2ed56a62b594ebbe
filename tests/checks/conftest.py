"""The shipped configs on a few tiny files, up to where training would start."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.datasets import CocoDataset

from mmca.cli import library_tool
from mmca.cli.main import run_command
from tests.helpers import error_line, forget_mmengine, write_ade, write_coco, write_image


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    forget_mmengine()
    monkeypatch.chdir(tmp_path)  # where work dirs are made


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Both data sets in their expected layouts, MMCA_DATA_ROOT set to their folder."""
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    for split, number in (('train', 3), ('val', 2)):
        write_coco(tmp_path / 'coco', split, number, CocoDataset.METAINFO['classes'])
    write_ade(tmp_path, train=3, val=2)
    return tmp_path


@pytest.fixture
def folders(data):
    """An ImageNet of three classes, with one image of each in training, one in validation."""
    root = data / 'imagenet'
    for split in ('train', 'val'):
        for name in ('date', 'fig', 'hazelnut'):
            write_image(root / split / name / f'{name}.jpg', np.zeros((32, 32, 3)))
    return root


@pytest.fixture
def run(data, monkeypatch, capsys):
    """Run a command up to the library's own tool; returns code, out, err and the tool's argv."""

    def start(command, *argv):
        handed = []
        monkeypatch.setattr(sys, 'argv', ['tool'])
        monkeypatch.setattr(
            library_tool.runpy, 'run_path', lambda path, run_name: handed.extend(sys.argv)
        )
        code = run_command(command, [str(arg) for arg in argv])
        out, err = capsys.readouterr()
        assert 'Traceback' not in out + err
        assert code == (0 if handed else 2)
        return SimpleNamespace(code=code, out=out, err=err, argv=handed)

    return start


@pytest.fixture
def fail(run):
    """Run a command that must end with one error line and the exit code 2; returns the line."""

    def start(*argv):
        result = run(*argv)
        assert result.code == 2
        return error_line(result.err)

    return start


@pytest.fixture
def config(tmp_path):
    """Write a config that changes another one; returns its path."""

    def write(base, text):
        path = tmp_path / 'changed.py'
        path.write_text(f'_base_ = {base!r}\n{text}\n')
        return path

    return write
