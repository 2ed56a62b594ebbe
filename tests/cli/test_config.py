"""mmca config: listing, finding, printing, copying and inheriting from shipped configs."""

import pytest
from mmengine.config import Config

from mmca.cli.main import main
from mmca.config.reader import read_config
from mmca.config.shipped import config_names
from tests.helpers import CONFIGS

NAME = 'coco/maskrcnn_ca_pvt_s'


@pytest.fixture
def out(capsys, tmp_path, monkeypatch):
    """Run `mmca config` in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMCA_DATA_ROOT', raising=False)

    def run(*argv):
        assert main(['config', *argv]) == 0
        return capsys.readouterr().out

    return run


def test_the_list_has_every_config_with_its_backbone_and_published_figures(out):
    rows = [line.split() for line in out('--list').splitlines() if '/' in line.split(' ')[0]]
    assert sorted(row[0] for row in rows) == config_names()
    (row,) = [row for row in rows if row[0] == NAME]
    assert row[1:] == [
        'Mask',
        'R-CNN',
        'CA-PVT-S',
        '42.38',
        '268.9',
        'box',
        'AP',
        '44.2,',
        'mask',
        'AP',
        '40.7',
    ]


def test_path(out):
    assert out(NAME) == f'{CONFIGS / NAME}.py\n'


def test_print_merges_bases_and_options(out):
    text = out(NAME, '--print', '--cfg-options', 'train_cfg.max_epochs=3')
    cfg = Config.fromstring(text, '.py')
    assert cfg.train_cfg.max_epochs == 3
    assert cfg.model.backbone.arch == 'small'
    assert cfg.train_dataloader.dataset.data_root == 'data/coco'


def test_a_copy_stands_alone_and_follows_the_data_root(out, tmp_path, monkeypatch):
    said = out(NAME, '--copy', 'own.py', '--cfg-options', 'model.backbone.arch=tiny')
    assert said == 'wrote own.py; train it with: mmca train own.py\n'
    text = (tmp_path / 'own.py').read_text()
    assert '_base_' not in text
    assert str(CONFIGS) not in text
    copy, original = Config.fromfile('own.py'), read_config(NAME)
    original.model.backbone.arch = 'tiny'
    assert copy.to_dict() == original.to_dict()
    monkeypatch.setenv('MMCA_DATA_ROOT', '/disk')
    assert Config.fromfile('own.py').val_evaluator.ann_file.startswith('/disk/coco/')


def test_a_starter_inherits_and_changes_nothing_by_itself(out, tmp_path):
    out(NAME, '--inherit', 'own.py')
    text = (tmp_path / 'own.py').read_text()
    assert text.startswith(f"_base_ = 'mmca::{NAME}.py'\n")
    assert str(CONFIGS) not in text
    assert read_config('own.py').to_dict() == read_config(NAME).to_dict()
    (tmp_path / 'own.py').write_text(text.replace('batch_size=2', 'batch_size=7'))
    cfg = read_config('own.py')
    assert cfg.train_dataloader.batch_size == 7
    # mmengine would mark what comes from a package with its scope, and look for it there.
    assert '_scope_' not in cfg.pretty_text
    assert read_config(str(tmp_path / 'own.py')).train_dataloader.batch_size == 7


def test_bases_of_other_packages_are_left_to_mmengine(tmp_path):
    path = tmp_path / 'own.py'
    path.write_text("_base_ = 'mmdet::_base_/default_runtime.py'\n")
    assert read_config(str(path)).default_scope == 'mmdet'


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        ([], 'name a config, or use --list'),
        (['coco/maskrcnn_ca_pvt_xx'], 'the nearest shipped ones are coco/maskrcnn_ca_pvt_'),
        ([NAME, '--copy', 'own.txt'], 'own.txt: the name of a config must end in .py'),
        ([NAME, '--copy', 'there.py'], 'there.py is there already: choose another name'),
        ([NAME, '--copy', 'no/own.py'], 'cannot write no/own.py: No such file or directory'),
        (['there.py', '--inherit', 'own.py'], 'there.py is not a shipped config'),
        ([NAME, '--cfg-options', 'a=1'], '--cfg-options goes with --print or --copy'),
    ],
)
def test_bad_input_is_one_line(fail, tmp_path, monkeypatch, argv, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there.py').write_text('mine = 1\n')
    assert expected in fail('config', *argv)
    assert [path.name for path in tmp_path.iterdir()] == ['there.py']


def test_an_unknown_base_is_one_line(fail, tmp_path):
    path = tmp_path / 'own.py'
    path.write_text("_base_ = 'mmca::coco/maskrcnn_ca_pvt_xx.py'\n")
    line = fail('flops', path)
    assert f'config {path}, or a file in its _base_: config not found: mmca::coco/mask' in line
    assert 'the nearest shipped ones are coco/maskrcnn_ca_pvt_' in line
