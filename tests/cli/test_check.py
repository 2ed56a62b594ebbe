"""mmca check: a table of what was built, or one line."""

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.registry import MODELS, DefaultScope

from mmca.cli.main import main
from mmca.config.reader import read_config
from tests.helpers import SMALL_IMAGES, forget_mmengine, write_ade, write_coco

DET, SEG = 'coco/maskrcnn_ca_pvt_t', 'ade20k/fpn_ca_pvt_t'
SMALL = [
    'train_dataloader.dataset.pipeline.2.scale=(64,64)',
    'val_dataloader.dataset.pipeline.1.scale=(64,64)',
]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Tiny data sets in the shipped configs' layouts, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    for split, number in (('train', 3), ('val', 2)):
        write_coco(tmp_path / 'coco', split, number, CocoDataset.METAINFO['classes'])
    write_ade(tmp_path, train=3, val=2)
    return tmp_path


def test_a_table_of_data_model_and_checkpoint(capsys, data):
    assert main(['check', DET, '--cfg-options', *SMALL]) == 0
    out, err = capsys.readouterr()
    head, *rows, model, checkpoint = out.splitlines()[-5:]
    assert head.split() == ['data', 'set', 'type', 'images', 'classes', 'source']
    root = data / 'coco/annotations/instances_'
    for row, split, number in zip(rows, ('train', 'val'), ('3', '2'), strict=True):
        expected = [f'{split}_dataloader.dataset', 'CocoDataset', number, '80']
        assert row.split() == [*expected, f'{root}{split}2017.json']
    assert model == 'model: MaskRCNN, backbone CAPVT, 31.88 M parameters'
    assert checkpoint == 'checkpoint: none'
    assert 'OneDL' not in out + err
    assert not list(data.glob('work_dirs'))


def test_weights_are_compared(capsys, refused, data):
    with DefaultScope.overwrite_default_scope('mmseg'):
        state = MODELS.build(read_config(SEG).model).state_dict()
    torch.save({'state_dict': state, 'meta': {}}, data / 'whole.pth')
    options = ['--cfg-options', *SMALL_IMAGES]
    assert main(['check', SEG, '--load-from', 'whole.pth', *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'checkpoint: whole.pth'
    assert 'whole.pth' in refused('check', SEG, '--resume', 'whole.pth', *options)  # no optimizer
    assert 'absent.pth' in refused('check', SEG, '--load-from', 'absent.pth')


def test_problems_are_one_line(refused, data):
    image = data / 'coco/train2017/1.jpg'
    image.unlink()
    assert f'{image} does not exist (1 missing, 3 images)' in refused('check', DET)
    file = data / 'coco/annotations/instances_train2017.json'
    file.unlink()
    expected = f'error: train_dataloader: not found: {file}; correct the path in the config, or '
    assert refused('check', DET).startswith(expected)
    assert 'huge' in refused('check', SEG, '--cfg-options', 'model.backbone.arch=huge')
    assert 'coco/absent' in refused('check', 'coco/absent')
    classes = 'model.decode_head.num_classes=19'
    assert '150 classes, but model.decode_head' in refused('check', SEG, '--cfg-options', classes)


def test_every_image(capsys, refused, data):
    assert main(['check', SEG, '--images', '--cfg-options', *SMALL_IMAGES]) == 0
    capsys.readouterr()
    forget_mmengine()
    for index in range(2):
        (data / f'ADEChallengeData2016/images/training/{index}.jpg').write_bytes(b'')
    assert main(['check', SEG, '--images', '--cfg-options', 'default_hooks.checks=None']) == 2
    out, err = capsys.readouterr()
    assert out.count('the file is empty') == 2
    assert '2 of train_dataloader.dataset' in err
