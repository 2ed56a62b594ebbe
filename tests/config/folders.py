"""Small data sets in the layouts that `inspect_folder` knows."""

import json
from itertools import product

import numpy as np
from PIL import Image

from tests.helpers import write_image

SQUARE = [[4, 4, 20, 4, 20, 20, 4, 20]]


def write_coco(file, images, number=2, masks=True, first=0):
    """A COCO file whose images show a fig each."""
    names = [f'{first + i}.jpg' for i in range(number)]
    for name in names:
        write_image(images / name, np.zeros((48, 64, 3)))
    fig = {'category_id': 7, 'bbox': [4, 4, 16, 16], 'area': 256, 'iscrowd': 0}
    fig |= {'segmentation': SQUARE} if masks else {}
    sized = [
        {'id': i, 'file_name': name, 'width': 64, 'height': 48} for i, name in enumerate(names)
    ]
    content = {
        'images': sized,
        'annotations': [{'id': i + 1, 'image_id': i, **fig} for i in range(number)],
        'categories': [{'id': 7, 'name': 'fig'}, {'id': 3, 'name': 'date'}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_labels(
    images, labels, names=('a', 'b'), values=(0, 1), ends=('.jpg', '.png'), mode='RGB'
):
    """Images of noise with label maps of stripes."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name in names:
        write_image(images / f'{name}{ends[0]}', np.asarray(Image.fromarray(noise).convert(mode)))
        stripes = np.resize(np.repeat(values, 8), (48, 64)).astype(np.uint8)
        write_image(labels / f'{name}{ends[1]}', stripes)


def as_coco(data):
    for split, number in (('train', 3), ('val', 2)):
        write_coco(data / f'annotations/instances_{split}2017.json', data / f'{split}2017', number)
    (data / 'annotations/captions_train2017.json').write_text('{"images": [], "annotations": []}')


def as_roboflow(data):
    for split, number in (('train', 3), ('valid', 2), ('test', 1)):
        write_coco(data / split / '_annotations.coco.json', data / split, number)


def as_flat_files(data):
    write_coco(data / 'train.json', data / 'images', 3)
    write_coco(data / 'val.json', data / 'images', 2, first=3)


def as_one_file(data):
    write_coco(data / 'annotations.json', data / 'images', 10)


def as_ade(data):
    for split in ('training', 'validation'):
        write_labels(data / 'images' / split, data / 'annotations' / split)


def as_segnet(data):
    for split in ('train', 'val'):
        write_labels(data / split, data / f'{split}annot', ends=('.png', '.png'))


def as_cityscapes(data, kinds=('labelTrainIds',)):
    """A folder per city, and names that begin with the city."""
    for split, name, kind in product(('train', 'val'), ('aachen_0', 'bonn_1'), kinds):
        below = f'{split}/{name[:-2]}'
        ends = '_leftImg8bit.png', f'_gtFine_{kind}.png'
        write_labels(data / f'leftImg8bit/{below}', data / f'gtFine/{below}', [name], ends=ends)


def as_scenes(data):
    """A folder per scene, and the same names in all."""
    for scene in ('day', 'night'):
        write_labels(data / 'images' / scene, data / 'masks' / scene, 'abc')


def scenes_side_by_side(data):
    for split, scene in product(('train', 'val'), ('day', 'night')):
        folder = data / split / scene
        write_labels(folder, folder, 'ab', values=(0, 1, 255) if scene == 'day' else (0, 1))


def as_voc(data):
    """VOC has images without a label map, and object numbers beside the classes."""
    for kind in ('Class', 'Object'):
        write_labels(data / 'JPEGImages', data / f'Segmentation{kind}', ('a', 'b', 'c'))
    write_image(data / 'JPEGImages/d.jpg', np.zeros((48, 64, 3)))
    lists = data / 'ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\nc\n')
    (lists / 'val.txt').write_text('b\n')


def as_gray(data):
    """Gray photographs."""
    write_labels(data / 'images', data / 'masks', 'abcde', ends=('.png', '.png'), mode='L')


def as_tiff(data):
    for split in ('train', 'val'):
        write_labels(data / split / 'images', data / split / 'labels', ends=('.TIF', '.tif'))


def as_mixed(data):
    """Several formats, one image without a label map, and one folder of label maps."""
    for split, names in (('train', 'ab'), ('val', 'cd')):
        for name, end in zip(names, ('.JPEG', '.png'), strict=True):
            write_labels(data / 'images' / split, data / 'masks', [name], ends=(end, '.png'))
    write_image(data / 'images/train/x.jpg', np.zeros((48, 64, 3)))


def side_by_side(data):
    write_labels(data, data, [f'{i}' for i in range(5)], ends=('.png', '_mask.png'))


def as_one_folder(data):
    write_labels(data / 'images', data / 'masks', [f'n{i}' for i in range(5)])
