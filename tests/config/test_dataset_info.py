"""Inspecting folders: layouts of COCO data sets and label maps, and what is wrong with them."""

import json

import numpy as np
import pytest

from mmca.config.dataset_info import inspect_folder
from mmca.errors import InputError
from tests.config import folders
from tests.config.folders import write_coco, write_labels
from tests.helpers import write_image


@pytest.mark.parametrize(
    ('layout', 'expected'),
    [
        (folders.as_coco, {'train': ('train2017', 3), 'val': ('val2017', 2)}),
        (folders.as_roboflow, {'train': ('train', 3), 'val': ('valid', 2), 'test': ('test', 1)}),
        (folders.as_flat_files, {'train': ('images', 3), 'val': ('images', 2)}),
        (folders.as_one_file, {'train': ('images', 8), 'val': ('images', 2)}),
        (folders.as_ade, {'train': ('images/training', 2), 'val': ('images/validation', 2)}),
        (folders.as_segnet, {'train': ('train', 2), 'val': ('val', 2)}),
        (folders.as_cityscapes, {'train': ('leftImg8bit/train', 2), 'val': ('leftImg8bit/val', 2)}),
        (folders.as_scenes, {'train': ('images', 5), 'val': ('images', 1)}),
        (folders.scenes_side_by_side, {'train': ('train', 4), 'val': ('val', 4)}),
        (folders.as_voc, {'train': ('JPEGImages', 2), 'val': ('JPEGImages', 1)}),
        (folders.as_one_folder, {'train': ('images', 4), 'val': ('images', 1)}),
        (folders.as_gray, {'train': ('images', 4), 'val': ('images', 1)}),
        (folders.as_tiff, {'train': ('train/images', 2), 'val': ('val/images', 2)}),
        (folders.as_mixed, {'train': ('images/train', 2), 'val': ('images/val', 2)}),
        (folders.side_by_side, {'train': ('.', 4), 'val': ('.', 1)}),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_layouts(layout, expected, tmp_path):
    layout(tmp_path)
    info = inspect_folder(tmp_path)
    splits = {name: (split.images, len(split.names)) for name, split in info.splits.items()}
    assert splits == expected
    assert info.size == (64, 48)
    number = expected['train'][1]
    if info.task == 'labels':
        assert info.classes == ['class_0', 'class_1']
        assert info.splits['train'].objects == {'class_0': number, 'class_1': number}
    else:
        assert info.task == 'masks'
        assert info.classes == ['fig', 'date']  # in the file's order
        assert info.splits['train'].objects == {'fig': number, 'date': 0}


def test_held_out_images_are_not_trained_on(tmp_path):
    folders.as_one_file(tmp_path)
    info = inspect_folder(tmp_path)
    assert '2 images of annotations.json are held out' in info.notes[0]
    ids = []
    for split in info.splits.values():
        content = json.loads(split.content)
        ids.append({image['id'] for image in content['images']})
        assert {entry['image_id'] for entry in content['annotations']} == ids[-1]
    assert not ids[0] & ids[1]
    assert inspect_folder(tmp_path).splits == info.splits


def test_files_may_be_named_and_lie_elsewhere(tmp_path):
    data = tmp_path / 'data'
    for name in ('train_a', 'train_b', 'val'):
        write_coco(data / f'{name}.json', data / 'images', masks=False)
    write_coco(tmp_path / 'other.json', data / 'images', masks=False)
    info = inspect_folder(data, train='train_b.json', val=str(tmp_path / 'other.json'))
    assert info.task == 'boxes'
    assert info.splits['train'].listing == 'train_b.json'
    assert info.splits['val'].listing == str(tmp_path / 'other.json')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'cp1252'])
def test_classes_of_label_maps(encoding, tmp_path):
    folders.as_ade(tmp_path)
    (tmp_path / 'classes.txt').write_bytes('Bäume\r\nStraße\r\n'.encode(encoding))
    assert inspect_folder(tmp_path).classes == ['Bäume', 'Straße']
    assert inspect_folder(tmp_path, classes='a, b,c').classes == ['a', 'b', 'c']


def test_classes_of_a_roboflow_export(tmp_path):
    for split in ('train', 'valid'):
        write_labels(tmp_path / split, tmp_path / split, ends=('.jpg', '_mask.png'))
        (tmp_path / split / '_classes.csv').write_text('Pixel Value, Class\n0, sky\n1, "a, b"\n')
    assert inspect_folder(tmp_path).classes == ['sky', 'a, b']


def test_classes_that_begin_at_one(tmp_path):
    write_labels(tmp_path / 'x', tmp_path / 'y', values=(1, 2, 255))
    info = inspect_folder(tmp_path, classes='a,b')
    assert info.reduce_zero_label
    assert info.splits['val'].objects == {'a': 1, 'b': 1}
    assert not inspect_folder(tmp_path, classes='background,a,b').reduce_zero_label
    with pytest.raises(InputError, match='label 2: list 3'):
        inspect_folder(tmp_path, classes='a')


def test_images_without_a_label_map_are_counted(tmp_path):
    folders.as_mixed(tmp_path)
    note, _ = inspect_folder(tmp_path).notes
    assert note == '1 images of train without a label map are left out, such as x.jpg'


def test_lists_of_names(tmp_path):
    write_labels(tmp_path / 'x', tmp_path / 'y', 'abc')
    (tmp_path / 'train.txt').write_bytes(b'\xef\xbb\xbfx/a.jpg y/a.png\r\nx/c.jpg y/c.png\r\n')
    (tmp_path / 'val.txt').write_text('b')
    splits = inspect_folder(tmp_path).splits
    assert [split.names for split in splits.values()] == [['a.jpg', 'c.jpg'], ['b.jpg']]


def test_boxes_are_trained_where_some_objects_have_no_mask(tmp_path):
    folders.as_coco(tmp_path)
    file = tmp_path / 'annotations/instances_val2017.json'
    file.write_text(file.read_text().replace('[[4, 4, 20, 4, 20, 20, 4, 20]]', '[]', 1))
    info = inspect_folder(tmp_path)
    assert info.task == 'boxes'
    assert info.notes == ['1 of 5 objects have no mask, so only boxes are trained']


def test_a_file_without_objects_is_named(tmp_path):
    folders.as_coco(tmp_path)
    file = tmp_path / 'annotations/instances_val2017.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), 'annotations': []}))
    notes = inspect_folder(tmp_path).notes
    assert notes[0].startswith('no validation file')
    assert notes[1] == f'left out: {file} has images, but no annotations'


def test_crowds_are_no_objects(tmp_path):
    folders.as_coco(tmp_path)
    file = tmp_path / 'annotations/instances_train2017.json'
    file.write_text(file.read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1))
    assert inspect_folder(tmp_path).splits['train'].objects == {'fig': 2, 'date': 0}


@pytest.mark.parametrize('text', ['', '{"a": 1', '[1]', '{"images": [1], "annotations": [2]}'])
@pytest.mark.parametrize('name', ['notes.json', 'train/notes.json'])
@pytest.mark.parametrize('layout', [folders.as_flat_files, folders.as_ade])
def test_unrelated_files_beside_the_data(layout, name, text, tmp_path):
    layout(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert set(inspect_folder(tmp_path).splits) == {'train', 'val'}


def yolo(data):
    write_labels(data / 'images', data / 'unused')
    (data / 'unused/a.png').unlink()
    (data / 'unused/b.png').unlink()
    (data / 'labels').mkdir()
    (data / 'labels/a.txt').write_text('0 .5 .5 .1 .1')


def two_files(data):
    for name in ('train_a', 'train_b'):
        write_coco(data / f'{name}.json', data / 'images')


def no_images(data):
    folders.as_coco(data)
    for image in (data / 'val2017').iterdir():
        image.unlink()


def changed(name, old, new):
    def layout(data):
        folders.as_coco(data)
        file = data / f'annotations/instances_{name}2017.json'
        file.write_text(file.read_text().replace(old, new))

    return layout


def results(data):
    folders.as_coco(data)
    file = data / 'annotations/instances_train2017.json'
    file.write_text(json.dumps(json.loads(file.read_text())['annotations']))


def cityscapes_kinds(data):
    folders.as_cityscapes(data, ('instanceIds', 'labelIds'))


def color_maps(data):
    folders.as_ade(data)
    for file in (data / 'annotations').rglob('*.png'):
        write_image(file, np.full((48, 64, 3), (0, 128, 255)))


@pytest.mark.parametrize(
    ('layout', 'options', 'expected'),
    [
        (lambda data: data.rmdir(), {}, 'no such folder'),
        (yolo, {}, 'neither a COCO file with .* nor images with label maps .* YOLO'),
        (two_files, {}, 'are all candidates for train: choose with --train'),
        (no_images, {}, 'no folder below .* has the images of .*val2017'),
        (changed('val', '{', ''), {}, 'cannot read .*instances_val2017.json'),
        (changed('train', 'file_name', 'path'), {}, 'train2017.json is malformed: .* file_name'),
        (changed('train', '"width": 64, ', ''), {}, 'malformed: number 0 of its images has no wi'),
        (
            changed('val', '[4, 4, 16, 16]', '["4", 4]'),
            {},
            r"has the bbox \['4', 4\]: write \[x, y",
        ),
        (
            changed('train', '_name": "', '_name": "/home/'),
            {},
            'as /home/0.jpg; its file_name must',
        ),
        (results, {}, 'train2017.json is a list of annotations without their images; use --train'),
        (folders.as_coco, {'train': 'absent.json'}, 'cannot read absent.json'),
        (folders.as_coco, {'val': 'annotations/captions_train2017.json'}, 'is not a COCO file'),
        (lambda data: write_labels(data / 'x/val', data / 'y/val'), {}, 'needs train and val'),
        (lambda data: write_labels(data / 'x', data / 'y', values=(0, 255)), {}, 'contain only 0'),
        (lambda data: write_labels(data / 'x', data / 'y', values=(0, 75)), {}, 'labels, up to 75'),
        (
            lambda d: write_labels(d / 'x', d / 'y', ends=('.png', '.jpg')),
            {},
            'y has JPEG label maps',
        ),
        (color_maps, {}, r'annotations/training has .* the colors \(0, 128, 255\).*own_data.md'),
        (cityscapes_kinds, {}, 'gtFine/.* has several label maps .*_labelIds.png: keep one kind'),
        (folders.as_ade, {'classes': 'sky'}, 'lists 1 classes.* use --classes background,sky'),
    ],
)
def test_a_folder_that_cannot_be_used(layout, options, expected, tmp_path):
    data = tmp_path / 'data'
    data.mkdir()
    layout(data)
    with pytest.raises(InputError, match=expected):
        inspect_folder(data, **options)
