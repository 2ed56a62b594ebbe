"""Annotations that do not fit the config are reported, with the options that would fit."""

import importlib

import numpy as np
import pytest
from mmdet.datasets import CocoDataset

from mmca.errors import InputError
from tests.helpers import CLS, DET, SEG, THREE, needs_mmpretrain, write_coco, write_image

NAMES = CocoDataset.METAINFO['classes']


@pytest.mark.parametrize(
    ('content', 'reason'),
    [('{"images": [{', 'is no COCO annotation file'), ('[]', "it has no list 'categories'")],
)
def test_broken_annotation_file(fail, data, content, reason):
    (data / 'coco/annotations/instances_val2017.json').write_text(content)
    text = fail('train', DET)
    assert reason in text
    assert 'instances_val2017.json' in text


def test_categories_of_another_data_set(run, fail, data):
    write_coco(data / 'coco', 'train', 3, ('date', 'fig', 'hazelnut'))
    text = fail('train', DET)
    assert '80 of the 80 class names of the config are not among the 3 categories' in text
    assert 'person, bicycle' in text
    options = text.split('--cfg-options ')[1].replace('"', '').split()
    assert 'model.roi_head.mask_head.num_classes=3' in options
    write_coco(data / 'coco', 'val', 2, ('date', 'fig', 'hazelnut'))
    result = run('train', DET, '--cfg-options', *options)
    assert '3 train images, 3 classes' in result.out


@pytest.mark.parametrize('name', ['traffic light', '7', "cook's", 'a,b'])
def test_names_that_options_cannot_carry(fail, data, name):
    write_coco(data / 'coco', 'train', 3, (name, 'fig'))
    text = fail('train', DET)
    assert f'set metainfo=dict(classes={(name, "fig")}) for each data set' in text


def test_number_of_classes_of_the_heads(fail):
    option = 'model.roi_head.mask_head.num_classes=3'
    text = fail('train', DET, '--cfg-options', option)
    assert 'train_dataloader.dataset has 80 classes, but model.roi_head.mask_head' in text
    assert 'bbox_head.num_classes=80 model.roi_head.mask_head.num_classes=80' in text
    text = fail('train', SEG, '--cfg-options', 'model.decode_head.num_classes=19')
    assert '150 classes, but model.decode_head.num_classes=19' in text


def test_number_of_classes_of_a_cascade(fail, config):
    path = config(
        DET,
        """
model = dict(roi_head=dict(bbox_head=[
    dict(type='Shared2FCBBoxHead', num_classes=n) for n in (80, 20)]))""",
    )
    assert 'but model.roi_head.bbox_head.1.num_classes=20.' in fail('train', path)


def test_order_and_unused_categories_are_warnings(run, data):
    write_coco(data / 'coco', 'train', 3, [*reversed(NAMES), 'unicorn'])
    result = run('train', DET)
    assert result.code == 0
    assert 'another order than train_dataloader.dataset.metainfo.classes' in result.err
    assert '1 categories of' in result.err
    assert 'unicorn' in result.err


def test_label_beyond_the_classes(run, fail, data):
    path = data / 'ADEChallengeData2016/annotations/training/1.png'
    write_image(path, np.full((32, 32), 151))
    text = fail('train', SEG)
    assert f'{path} has label 150 in 1024 of its 1024 pixels (after reduce_zero_label)' in text
    assert 'but 150 classes end at 149' in text
    write_image(path, np.full((32, 32), 0))  # ignored
    assert run('train', SEG).code == 0


def test_label_map_is_absent_color_or_damaged(fail, data):
    path = data / 'ADEChallengeData2016/annotations/training/2.png'
    write_image(path, np.zeros((32, 32, 3)))
    assert f'{path} is a color image' in fail('train', SEG)
    path.write_bytes(path.read_bytes()[:60])
    assert f'cannot read {path}' in fail('train', SEG)
    path.unlink()
    assert f'no label map {path}' in fail('train', SEG)


def test_own_class_names_for_ade(fail):
    option = "train_dataloader.dataset.metainfo.classes=('cat','dog')"
    assert 'use type=BaseSegDataset' in fail('train', SEG, '--cfg-options', option)


def options(text: str) -> list[str]:
    """The options that a message recommends."""
    return text.split('--cfg-options ')[1].split()


@needs_mmpretrain
def test_class_folders_against_the_head(run, fail, folders):
    text = fail('train', CLS)
    assert 'train_dataloader.dataset has 3 classes, but model.head.num_classes=1000' in text
    assert options(text) == THREE[1:]
    result = run('train', CLS, '--work-dir', 'here', *THREE)
    assert result.out.splitlines()[-1] == (
        f'mmpretrain train: {CLS}, work dir here, 3 train images, 3 classes'
    )
    assert result.err == ''
    assert result.argv[0].endswith('mmpretrain/.mim/tools/train.py')
    assert result.argv[1:] == [CLS, '--work-dir', 'here', *THREE]
    text = fail('train', CLS, *THREE[:2])
    assert 'has 3 classes, but model.data_preprocessor.num_classes=1000. For 3 classes' in text


@needs_mmpretrain
def test_classes_of_training_and_validation_differ(fail, folders):
    (folders / 'val/fig').rename(folders / 'val/grape')
    text = fail('train', CLS, *THREE)
    assert 'train_dataloader.dataset and val_dataloader.dataset have different classes' in text
    assert text.endswith('only one of them has fig, grape')


@needs_mmpretrain
@pytest.mark.parametrize(
    ('lines', 'expected'),
    [
        ('date/date.jpg 0\nfig/fig.jpg 3', 'fig/fig.jpg the label 3, but 3 classes end at 2'),
        ('date/date.jpg 0\nplum.jpg 1', 'lists an image that is not there: {}/train/plum.jpg'),
        ('date/date.jpg', 'train_dataloader.dataset: '),
        (
            'date/date.jpg fig',
            'train_dataloader.dataset: invalid literal for int()',
        ),
    ],
)
def test_list_of_labels(run, fail, folders, lines, expected):
    (folders / 'train.txt').write_text(lines)
    own = ['train_dataloader.dataset.ann_file=train.txt']
    assert 'CustomDataset has no class names' in fail('train', CLS, *THREE, *own)
    own.append("train_dataloader.dataset.metainfo.classes=('date','fig','hazelnut')")
    assert expected.format(folders) in fail('train', CLS, *THREE, *own)
    (folders / 'train.txt').write_text('date/date.jpg 0\nfig/fig.jpg 1')
    assert '2 train images, 3 classes' in run('train', CLS, *THREE, *own).out


@needs_mmpretrain
def test_transforms_of_an_absent_torchvision(run, folders):
    run('train', CLS, *THREE)
    if importlib.import_module('torchvision').__version__ != 'not installed':
        pytest.skip('torchvision is installed')
    transforms = importlib.import_module('mmpretrain.registry').TRANSFORMS
    with pytest.raises(InputError, match='this needs torchvision, which is not installed'):
        transforms.build(dict(type='mmpretrain.torchvision/RandomResizedCrop', size=224))
