"""Reading configs: one clear line for whatever is wrong with one or with its options."""

import re

import pytest

from mmca.config import packages
from mmca.config.reader import load_config, parse_options, read_config
from tests.helpers import CLS, DET, SEG


@pytest.mark.parametrize(
    ('name', 'text', 'expected'),
    [
        ('c.txt', '', 'config {}, or a file in its _base_: OSError: Only py/yml/yaml/json type'),
        ('c.py', 'a = 1\nb = (\n', 'SyntaxError: '),
        ('c.py', 'a = 1\nb = (\n', 'line 2'),
        ('c.py', 'a = undefined', "NameError: name 'undefined' is not defined"),
        ('c.json', '{"a": ', 'config {}, or a file in its _base_'),
        ('c.py', "_base_ = 'absent.py'", 'absent.py'),
        ('c.py', "_base_ = __import__('mmca').find_config('coco/x')", 'config not found: coco/x'),
        ('c.py', 'a = 1', 'default_scope is None; choose from mmdet,'),
        ('c.yaml', 'default_scope: mmpose', "default_scope is 'mmpose'; choose from mmdet"),
        (
            'c.py',
            "default_scope = 'mmseg'\ncustom_imports = dict(imports=['absent.module'])",
            "custom_imports: ModuleNotFoundError: No module named 'absent'",
        ),
    ],
)
def test_bad_config(fail, tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_text(text)
    assert expected.format(path) in fail('train', path)


@pytest.mark.parametrize(
    ('pair', 'expected'),
    [
        ('work_dir', '--cfg-options work_dir: write KEY=VALUE'),
        ('model.depths=(1,', 'write KEY=VALUE, with balanced brackets'),
        ('default_scope.x=1', 'cannot apply --cfg-options to'),
    ],
)
def test_bad_options(fail, pair, expected):
    assert expected in fail('train', DET, '--cfg-options', pair)


def test_an_option_that_changes_nothing_is_named(capsys):
    read_config('mini/maskrcnn_ca_pvt_mini', ['train_pipeline.2.scale=(9,9)'])
    expected = 'train_pipeline.2.scale changes a variable, .* in train_dataloader.dataset.pipeline'
    assert re.search(expected, capsys.readouterr().err)
    read_config('mini/maskrcnn_ca_pvt_mini', ['train_dataloader.dataset.pipeline.2.scale=(9,9)'])
    assert capsys.readouterr().err == ''


def test_settings_of_older_libraries_are_named(tmp_path, capsys):
    path = tmp_path / 'old.py'
    path.write_text(f'_base_ = {DET!r}\noptimizer_config = dict(cumulative_iters=4)')
    load_config(str(path))
    expected = 'optimizer_config has no effect in mmengine, which reads optim_wrapper'
    assert expected in capsys.readouterr().err
    text = "optimizer = dict(_delete_=True, type='SGD')\noptim_wrapper = dict(optimizer=optimizer)"
    path.write_text(f'_base_ = {DET!r}\n{text}')
    load_config(str(path))
    assert capsys.readouterr().err == ''


def test_options_read_as_the_libraries_do():
    pairs = ['a.b=1', 'c=1e-3', 'd=None', "e=('x','y')", 'f=p=q', 'a.b=2']
    expected = {'a.b': 2, 'c': 1e-3, 'd': None, 'e': ('x', 'y'), 'f': 'p=q'}
    assert parse_options(pairs) == expected


@pytest.mark.parametrize(
    ('absent', 'config', 'expected'),
    [
        ('mmcv._ext', SEG, 'mmcv has no compiled operators; `mmca doctor` shows how'),
        ('mmseg', SEG, 'mmseg is not installed; run'),
        ('mmpretrain', CLS, 'mmpretrain is not installed; run'),
    ],
)
def test_missing_package(fail, monkeypatch, absent, config, expected):
    found = packages.find_spec
    monkeypatch.setattr(packages, 'find_spec', lambda n: None if n == absent else found(n))
    assert fail('train', config).startswith(f'error: {expected}')
