"""mmca check: a table of what was found, or one line."""

import subprocess
import sys

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.registry import MODELS, DefaultScope

from mmca.cli.main import main
from mmca.config.reader import read_config
from tests.helpers import write_ade, write_coco

DET, SEG = 'coco/maskrcnn_ca_pvt_t', 'ade20k/fpn_ca_pvt_t'


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Tiny data sets in the shipped configs' layouts, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    for split, number in (('train', 3), ('val', 2)):
        write_coco(tmp_path / 'coco', split, number, CocoDataset.METAINFO['classes'])
    write_ade(tmp_path, train=3, val=2)
    return tmp_path


def check(capsys, *argv):
    assert main(['check', *argv]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_table_of_data_model_and_checkpoint(capsys, data):
    lines = check(capsys, DET)
    start = lines.index(
        'mmdet train: coco/maskrcnn_ca_pvt_t, work dir ./work_dirs/'
        'maskrcnn_ca_pvt_t, 3 train images, 80 classes'
    )
    rows = [line.split() for line in lines[start + 2 : start + 4]]
    root = data / 'coco/annotations'
    assert rows == [
        [
            'train_dataloader.dataset',
            'CocoDataset',
            '3',
            '3',
            '80',
            f'{root}/instances_train2017.json',
        ],
        ['val_dataloader.dataset', 'CocoDataset', '2', '2', '80', f'{root}/instances_val2017.json'],
    ]
    assert lines[start + 4 :] == [
        'model: MaskRCNN, backbone CAPVT, 31.88 M parameters',
        'checkpoint: none; training starts from scratch',
    ]
    assert list(data.glob('work_dirs')) == []


def test_weights_of_the_backbone_are_compared_and_named(capsys, fail, data):
    options = [
        '--cfg-options',
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint=x.pth',
    ]
    assert 'x.pth' in fail('check', SEG, *options)
    with DefaultScope.overwrite_default_scope('mmseg'):
        state = MODELS.build(read_config(SEG).model.backbone).state_dict()
    torch.save(dict(list(state.items())[:9]), data / 'x.pth')
    assert 'x.pth does not fit CAPVT: 9 loaded' in fail('check', SEG, *options)
    torch.save(state, data / 'x.pth')
    lines = check(capsys, SEG, *options)
    assert lines[-1] == 'checkpoint: none; the backbone starts from x.pth'


def test_a_checkpoint_is_compared(capsys, fail, data):
    with DefaultScope.overwrite_default_scope('mmseg'):
        state = MODELS.build(read_config(SEG).model).state_dict()
    torch.save({'state_dict': state}, data / 'whole.pth')
    lines = check(capsys, SEG, '--load-from', 'whole.pth')
    assert lines[-1].startswith(f'checkpoint: whole.pth; {len(state)} loaded, 0 moved')
    assert check(capsys, SEG, '--load-from', 'http://h/x.pth')[-1].endswith('not looked at')
    assert 'checkpoint not found: absent.pth' in fail('check', SEG, '--resume', 'absent.pth')


def test_problems_are_one_line(fail, data):
    (data / 'coco/train2017/1.jpg').unlink()
    assert 'lists an image that is not there' in fail('check', DET)
    line = fail('check', SEG, '--cfg-options', 'model.backbone.arch=huge')
    assert 'huge' in line
    assert 'config not found: coco/absent' in fail('check', 'coco/absent')


def test_the_libraries_say_nothing_of_packages_that_nobody_asked_for():
    command = [sys.executable, '-m', 'mmca', 'check', DET]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '80 classes' in done.stdout
    assert 'OneDL' not in done.stdout + done.stderr
