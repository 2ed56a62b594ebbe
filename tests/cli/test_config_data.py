"""mmca config --data: what it finds in folders, what it chooses, what it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmca.backbones import DeiT
from mmca.cli.main import main
from mmca.config.own_data.code import Name, assign
from tests.helpers import write_image

SQUARE = [[4, 4, 20, 4, 20, 20, 4, 20]]
FAST = ('--size', '64', '48', '--device', 'cpu')


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty folder for a data set, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'fruits'
    folder.mkdir()
    return folder


@pytest.fixture
def write(capsys):
    """Write a config; returns it and what was printed."""

    def run(*argv):
        assert main(['config', '--data', 'fruits', *FAST, *argv]) == 0
        return Config.fromfile('fruits.py'), capsys.readouterr().out

    return run


def write_coco(file, images, number=2, masks=True, first=0):
    """A COCO file of images with a fig each."""
    names = [f'{first + i}.jpg' for i in range(number)]
    for name in names:
        write_image(images / name, np.zeros((48, 64, 3)))
    objects = [
        {
            'id': i + 1,
            'image_id': i,
            'category_id': 7,
            'bbox': [4, 4, 16, 16],
            'area': 256,
            'iscrowd': 0,
            **({'segmentation': SQUARE} if masks else {}),
        }
        for i in range(number)
    ]
    content = {
        'images': [
            {'id': i, 'file_name': name, 'width': 64, 'height': 48} for i, name in enumerate(names)
        ],
        'annotations': objects,
        'categories': [{'id': 7, 'name': 'fig'}, {'id': 3, 'name': 'date'}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_labels(images, labels, names=('a', 'b'), values=(0, 1), ends=('.jpg', '.png')):
    """Images with label maps of stripes."""
    for name in names:
        write_image(images / f'{name}{ends[0]}', np.zeros((48, 64, 3)))
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


@pytest.mark.parametrize(
    ('layout', 'folders'),
    [
        (as_coco, ['train2017', 'val2017', 'val2017']),
        (as_roboflow, ['train', 'valid', 'test']),
        (as_flat_files, ['images', 'images', 'images']),
    ],
)
def test_coco_layouts(layout, folders, data, write):
    layout(data)
    cfg, out = write()
    loaders = cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader
    assert [loader.dataset.data_prefix.img for loader in loaders] == folders
    assert cfg.model.type == 'MaskRCNN'
    assert cfg.metainfo.classes == ('fig', 'date')  # in the order of the file
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.train_cfg.max_epochs == 400  # 1,200 images, 3 of them different
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (64, 48)
    assert 'the objects have masks' in out
    assert out.rstrip().splitlines()[-3].endswith('mmca train fruits.py')


def test_boxes_alone_become_faster_rcnn(data, write):
    for split in ('train', 'val'):
        write_coco(data / f'{split}.json', data / split, masks=False)
    cfg, _ = write()
    assert cfg.model.type == 'FasterRCNN'
    assert cfg.val_evaluator.metric == 'bbox'


@pytest.mark.parametrize('model', ['fasterrcnn', 'retinanet', 'cascade_maskrcnn'])
def test_other_detectors(model, data, write):
    as_coco(data)
    cfg, _ = write('--model', model, '--backbone', 'ca_swin_t')
    heads = cfg.model.roi_head.bbox_head if 'roi_head' in cfg.model else cfg.model.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        assert head.num_classes == 2


def test_a_single_file_is_divided(data, write):
    write_coco(data / 'annotations.json', data / 'images', 10)
    cfg, out = write()
    ids = []
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        content = json.loads(Path(loader.dataset.ann_file).read_text())
        ids.append({image['id'] for image in content['images']})
        assert {entry['image_id'] for entry in content['annotations']} == ids[-1]
    assert [len(part) for part in ids] == [8, 2]
    assert not ids[0] & ids[1]
    assert 'note: annotations.json is the only file: 2 of its images are held out' in out


def as_ade(data):
    for split in ('training', 'validation'):
        write_labels(data / 'images' / split, data / 'annotations' / split)


def as_segnet(data):
    for split in ('train', 'val'):
        write_labels(data / split, data / f'{split}annot', ends=('.png', '.png'))


def as_cityscapes(data):
    for split in ('train', 'val'):
        ends = '_leftImg8bit.png', '_gtFine_labelTrainIds.png'
        write_labels(data / f'leftImg8bit/{split}', data / f'gtFine/{split}', ends=ends)


def as_voc(data):
    write_labels(data / 'JPEGImages', data / 'SegmentationClass', ('a', 'b', 'c'))
    lists = data / 'ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\nc\n')
    (lists / 'val.txt').write_text('b\n')


def as_one_folder(data):
    write_labels(data / 'images', data / 'masks', [f'n{i}' for i in range(5)])


@pytest.mark.parametrize(
    ('layout', 'train', 'images'),
    [
        (as_ade, ('images/training', 'annotations/training'), [2, 2]),
        (as_segnet, ('train', 'trainannot'), [2, 2]),
        (as_cityscapes, ('leftImg8bit/train', 'gtFine/train'), [2, 2]),
        (as_voc, ('JPEGImages', 'SegmentationClass'), [2, 1]),
        (as_one_folder, ('images', 'masks'), [4, 1]),
    ],
)
def test_layouts_of_label_maps(layout, train, images, data, write):
    layout(data)
    (data / 'classes.txt').write_text('background\nfig\n')
    cfg, out = write()
    prefix = cfg.train_dataloader.dataset.data_prefix
    assert (prefix.img_path, prefix.seg_map_path) == train
    assert cfg.metainfo.classes == ('background', 'fig')
    assert cfg.model.decode_head.num_classes == 2
    rows = [line.split() for line in out.splitlines()]
    assert [int(row[1]) for row in rows if row and row[0] in ('train', 'val')] == images
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0


def test_classes_of_label_maps(data, write):
    as_ade(data)
    _, out = write()
    assert 'class_1' in out
    assert 'the classes have no names' in out
    (data.parent / 'fruits.py').unlink()
    cfg, _ = write('--classes', 'background,fig,date')
    assert cfg.model.decode_head.num_classes == 3


def test_what_the_user_says_comes_first(data, write):
    as_coco(data)
    cfg, _ = write('--backbone', 'pvt_t', '--epochs', '7', '--batch-size', '3')
    assert cfg.model.backbone.type == 'mmca.PVT'
    assert cfg.train_cfg.max_epochs == 7
    assert cfg.train_dataloader.batch_size == 3
    assert cfg.auto_scale_lr.base_batch_size == 3
    assert 'Written by mmca config --data fruits --backbone pvt_t' in cfg.text


def test_a_detector_starts_from_weights_at_half_the_rate(data, write):
    as_coco(data)
    torch.save(DeiT('tiny').state_dict(), 'deit_tiny.pth')
    cfg, _ = write('--weights', 'deit_tiny.pth')
    assert cfg.model.backbone.type == 'mmca.CADeiT'
    assert cfg.model.backbone.init_cfg.checkpoint == 'deit_tiny.pth'
    assert cfg.optim_wrapper.optimizer.lr == 2e-4


def test_on_a_gpu_sizes_and_rates_are_those_of_the_published_recipe(data, capsys):
    as_coco(data)
    assert main(['config', '--data', 'fruits', '--device', 'cuda']) == 0
    assert 'mmca train fruits.py --amp --auto-scale-lr' in capsys.readouterr().out
    cfg = Config.fromfile('fruits.py')
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (1333, 800)
    assert cfg.optim_wrapper.optimizer.lr == 2e-4
    assert cfg.auto_scale_lr.base_batch_size == 16


def nothing(data):
    pass


def yolo(data):
    for i in range(3):
        write_image(data / f'images/{i}.jpg', np.zeros((8, 8, 3)))
        (data / 'labels').mkdir(exist_ok=True)
        (data / f'labels/{i}.txt').write_text('0 .5 .5 .1 .1')


def voc_boxes(data):
    for i in range(3):
        (data / f'{i}.xml').write_text('<annotation/>')


def two_files(data):
    for name in ('train_a', 'train_b'):
        write_coco(data / f'{name}.json', data / 'images')


def no_images(data):
    as_coco(data)
    for image in (data / 'val2017').iterdir():
        image.unlink()


def only_val(data):
    write_labels(data / 'images/val', data / 'labels/val')


def binary(data):
    write_labels(data / 'images', data / 'masks', values=(0, 255))


def gray(data):
    write_labels(data / 'images', data / 'masks', values=(0, 38, 75))


def unlabeled(data):
    as_ade(data)
    (data / 'annotations/training/a.png').unlink()


def broken(data):
    as_coco(data)
    (data / 'annotations/instances_val2017.json').write_text('{')


def masks_beyond(data):
    as_coco(data)
    file = data / 'annotations/instances_train2017.json'
    file.write_text(file.read_text().replace('"bbox": [4', '"bbox": ["4"'))


@pytest.mark.parametrize(
    ('layout', 'argv', 'expected'),
    [
        (None, [], 'no such folder: fruits'),
        (nothing, [], 'fruits has neither a COCO file nor images with label maps'),
        (yolo, [], 'it looks like YOLO files: docs/own_data.md'),
        (voc_boxes, [], 'it looks like VOC files'),
        (two_files, [], 'could all be used for train: name one with --train'),
        (no_images, [], 'no folder below fruits has the images that'),
        (only_val, [], 'fruits has val, but training needs train and val'),
        (binary, [], 'write class numbers from 0 on'),
        (gray, [], 'labels up to 75, but only 3 different ones'),
        (unlabeled, [], '1 of 2 images in fruits/images/training have no label map in'),
        (broken, [], 'cannot read fruits/annotations/instances_val2017.json'),
        (masks_beyond, [], 'bbox that is not four finite numbers'),
        (as_ade, ['--classes', 'background'], 'names 1 classes, but the label maps'),
        (as_ade, ['--model', 'maskrcnn'], '--model maskrcnn: there are label maps, for which'),
        (as_coco, ['--backbone', 'resnet'], 'has the backbone resnet; known are ca_deit_'),
        (as_coco, ['--epochs', '0'], '--epochs 0: must be at least 1'),
        (as_coco, ['--size', '8', '8'], '--size [8, 8]: must be at least 32'),
        (as_coco, ['--weights', 'absent.pth'], 'absent.pth'),
        (as_coco, ['--out', 'fruits.txt'], 'must end in .py'),
        (as_coco, ['--train', 'absent.json'], 'no such file: fruits/absent.json'),
        (as_coco, ['coco/maskrcnn_ca_pvt_t'], '--data chooses a config'),
        (as_coco, ['--cfg-options', 'a=1'], '--cfg-options goes with --print or --copy'),
    ],
)
def test_bad_input_leaves_nothing(layout, argv, expected, data, fail):
    if layout is None:
        data.rmdir()
    else:
        layout(data)
    assert expected in fail('config', '--data', 'fruits', '--device', 'cpu', *argv)
    assert [path.name for path in data.parent.iterdir()] == ['fruits'] * data.exists()


def test_an_existing_config_stays(data, fail):
    as_coco(data)
    config = data.parent / 'fruits.py'
    config.write_text('mine')
    assert 'is there already' in fail('config', '--data', 'fruits')
    assert config.read_text() == 'mine'


@pytest.mark.parametrize('listing', ['fruits_train.json', 'fruits_val.json'])
def test_an_existing_list_of_images_stays(listing, data, fail):
    write_coco(data / 'annotations.json', data / 'images', 10)
    (data.parent / listing).write_text('mine')
    assert f'{listing} is there already' in fail('config', '--data', 'fruits')
    assert (data.parent / listing).read_text() == 'mine'
    assert sorted(path.name for path in data.parent.iterdir()) == ['fruits', listing]


def test_flags_of_data_are_not_ignored_without_it(fail):
    assert '--backbone goes with --data' in fail('config', '--list', '--backbone', 'pvt_t')


def test_detectors_count_their_last_batches(data, write):
    for split, number in (('train', 3), ('val', 1)):
        write_coco(data / f'{split}.json', data / split, number)
    _, out = write('--epochs', '60')
    assert '60 epochs, 120 iterations of 2 images: --epochs' in out
    _, out = write('--epochs', '1', '--out', 'short.py')
    assert '1 epoch, 2 iterations of 2 images: --epochs' in out


def test_code_is_read_back():
    value = {'type': 'X', 'sizes': [(3, 5)] * 20, 'one': (1,), 'none': None, 'at': Name('place')}
    text = assign('value', value)
    assert max(map(len, text.splitlines())) <= 100
    scope = {'place': 'here'}
    exec(text, scope)
    assert scope['value'] == {**value, 'at': 'here'}


@pytest.mark.slow
@pytest.mark.parametrize('layout', [as_coco, as_ade])
def test_the_config_trains_tests_and_predicts(layout, data, write):
    layout(data)
    write('--epochs', '1', '--size', '64', '64')
    assert main(['train', 'fruits.py']) == 0
    (checkpoint,) = (data.parent / 'work_dirs/fruits').glob('[ei]*_1.pth')
    assert main(['test', 'fruits.py', str(checkpoint)]) == 0
    images = str(next(data.rglob('*.jpg')).parent)
    assert main(['predict', 'fruits.py', str(checkpoint), images, '--out', 'predictions']) == 0
