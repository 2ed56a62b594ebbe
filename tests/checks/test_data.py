"""Data sets of a run: wrappers, images, label maps and classes."""

import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import mmseg
import numpy as np
import pytest
import torch
from mmcv.transforms import Normalize
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.datasets import ADE20KDataset
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from mmca.checks import (
    Split,
    check_batch_labels,
    check_classes,
    check_data,
    check_every_image,
    check_normalization,
)
from mmca.errors import InputError
from tests.stress.good_data import HEIGHT, NAMES, WIDTH, Files, photo, write_good
from tests.stress.malformed import (
    IMAGE_ERRORS,
    IMAGE_FINE,
    MAP_ERRORS,
    MAP_FINE,
    annotation,
    cut,
    edit,
    labels,
    one,
    turned,
)


def test_wrappers_are_opened(coco, check):
    annotation(category_id=77)(coco.files)
    keys = [line.split(':')[1] for line in check(ConcatDataset([coco.build(), coco.build()]))]
    assert keys == [f' train_dataloader.dataset.datasets.{index}' for index in range(2)]
    for wrapped in (RepeatDataset(coco.build(), 2), ClassBalancedDataset(coco.build(), 0.5)):
        (line,) = check(wrapped)
        assert 'train_dataloader.dataset.dataset:' in line


def test_training_images_in_the_validation_are_counted(coco, check):
    number = len(coco.build())
    (line,) = check(coco.build(), coco.build(), metric='bbox')
    assert f'val_dataloader.dataset has {number} of {number} sampled training images' in line


def test_a_data_set_of_torch_passes(check):
    class Plain(torch.utils.data.Dataset):
        def __len__(self):
            return 1

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    assert check(Plain(), Stream()) == []


def test_results_of_images_of_one_name_are_not_overwritten(ade, tmp_path):
    dataset = ade.build()
    with DefaultScope.overwrite_default_scope('mmseg'):
        writes = Evaluator(dict(type='IoUMetric', output_dir=str(tmp_path / 'out')))
        silent = Evaluator(dict(type='IoUMetric'))
    check_data([Split('test_dataloader.dataset', dataset, writes)])
    for folder in (ade.files.images, ade.files.maps):
        for camera in ('cam1', 'cam2'):
            shutil.copytree(folder, tmp_path / camera)
            shutil.move(tmp_path / camera, folder / camera)
    dataset = ade.build()
    check_data([Split('test_dataloader.dataset', dataset, silent)])
    with pytest.raises(InputError, match='would overwrite each other in output_dir'):
        check_data([Split('test_dataloader.dataset', dataset, writes)])


def test_an_evaluator_has_the_images_of_its_data_set(coco):
    dataset = coco.build()
    metric = SimpleNamespace(default_prefix='', file_images={})
    split = Split('val_dataloader.dataset', dataset, SimpleNamespace(metrics=[metric]))
    metric.file_images = {i: {'file_name': f'val/{i}.jpg'} for i in range(3)}
    check_data([split])
    for images in ({0: {'file_name': '0.jpg'}}, {i: {'file_name': 'a.jpg'} for i in range(3)}):
        metric.file_images = images
        with pytest.raises(InputError, match=r'^val_evaluator.ann_file has .* set it to .*json$'):
            check_data([split])


def test_one_class_has_no_iou(ade):
    with DefaultScope.overwrite_default_scope('mmseg'):
        evaluator = Evaluator(dict(type='IoUMetric'))
    dataset = ade.build(metainfo=dict(classes=['fig']), reduce_zero_label=False)
    split = Split('val_dataloader.dataset', dataset, evaluator)
    for path in ade.files.maps.iterdir():
        Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(path)
    with pytest.raises(InputError, match=r"metainfo\.classes=.'background', 'fig'.*num_classes=2"):
        check_data([split])


def test_classes_of_splits(coco, ade, check):
    assert check(coco.build(), coco.build(test_mode=True)) == []
    own = dict(classes=('fig', 'date', 'hazelnut'))
    with pytest.raises(InputError, match='have different classes: in a different order'):
        check(ade.build(), ade.build(metainfo=own))
    own = dict(classes=('date', 'fig', 'nut', 'x'))
    with pytest.raises(InputError, match='only one has hazelnut, nut, x'):
        check(ade.build(), ade.build(metainfo=own))
    assert check(ade.build(), ade.build(metainfo=None)) == []


def test_a_missing_comma_in_classes(coco, check):
    with pytest.raises(InputError, match=r"metainfo.classes is a string: set classes=\('fig',\)"):
        check(coco.build(metainfo=dict(classes='fig')))


# --- Images


@pytest.mark.parametrize('change', IMAGE_ERRORS.values(), ids=IMAGE_ERRORS)
def test_broken_images(change, coco, ade, check):
    for data in (coco, ade):
        change(data.files)
        with pytest.raises(InputError, match=r'2.jpg') as caught:
            check(data.build())
        assert 'train_dataloader.dataset: ' in str(caught.value)


@pytest.mark.parametrize('change', IMAGE_FINE.values(), ids=IMAGE_FINE)
def test_unusual_images_pass(change, coco, ade, check):
    for data in (coco, ade):
        change(data.files)
        if cv2.imread(str(data.files.images / '2.jpg')) is None:
            pytest.skip(f'OpenCV {cv2.__version__} cannot read it')
        assert check(data.build()) == []
        assert data.build()[2]['img'].shape == (HEIGHT, WIDTH, 3)


def test_every_file_exists(ade, check):
    write_good(ade.files.images.parents[1] / 'large', 'ade', 70)
    files = Files(
        *(ade.files.images.parents[1] / f'large/{name}/train' for name in ('images', 'x', 'maps'))
    )
    dataset = ade.build(data_prefix=dict(img_path=str(files.images), seg_map_path=str(files.maps)))
    assert check(dataset) == []
    number = next(i for i in range(70) if i not in {j * 69 // 63 for j in range(64)})
    path = dataset.get_data_info(number)['seg_map_path']
    Path(path).unlink()  # not among the samples
    with pytest.raises(InputError, match=rf'{path} does not exist \(1 missing, 70 images\)'):
        check(dataset)


@pytest.mark.parametrize(('largest', 'warned'), [(4095, True), (65535, False)])
def test_images_of_12_bits(largest, warned, coco, check):
    values = np.linspace(0, largest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    Image.fromarray(values).save(coco.files.images / '1.png')
    one('images', file_name='1.png')(coco.files)
    lines = check(coco.build())
    assert len(lines) == warned
    assert all('1.png has 16 bits with values up to 4095' in line for line in lines)


def test_turned_images_and_listed_sizes(coco, check, capsys):
    turned(coco.files)
    with pytest.raises(InputError, match='color_type=color_ignore_orientation'):
        check(coco.build())
    assert check(coco.build(color='color_ignore_orientation')) == []
    one('images', width=HEIGHT, height=WIDTH)(coco.files)
    assert 'leaves the image' in check(coco.build(masks=False))[0]
    one('images', width=3 * WIDTH, height=WIDTH)(coco.files)
    with pytest.raises(InputError, match=f'2.jpg is {HEIGHT} x {WIDTH}, but its annotations say'):
        check(coco.build(masks=False))
    one('images', width=3, height=3)(coco.files)  # all boxes are outside, for the same reason
    with pytest.raises(InputError, match='say 3 x 3; correct width and height in the file'):
        check(coco.build(masks=False))
    assert capsys.readouterr().err == ''


def test_images_that_only_their_own_loader_can_read(ade, check):
    for file in ade.files.images.iterdir():
        file.write_bytes(b'a format of its own')
    if TRANSFORMS.get('LoadImageFromNpyFile') is None:
        pytest.skip(f'mmseg {mmseg.__version__} lacks LoadImageFromNpyFile')
    steps = [dict(type='LoadImageFromNpyFile'), dict(type='LoadAnnotations')]
    assert check(ade.build(pipeline=steps)) == []
    steps = [dict(type='LoadImageFromFile', imdecode_backend='tifffile')]
    assert check(ade.build(pipeline=steps)) == []


def test_every_image_is_decoded(coco, ade, capsys):
    cut(lambda data: data[:-500])(coco.files)
    (line,) = check_every_image('train', coco.build())
    assert line.startswith(f'cannot read {coco.files.image}')
    assert check_every_image('train', ade.build()) == []
    MAP_ERRORS['truncated map'](ade.files)
    capsys.readouterr()
    (line,) = check_every_image('train', ade.build())
    assert str(ade.files.map) in line
    assert capsys.readouterr().out == ''


def test_many_images_in_several_processes(coco):
    for index in range(3, 450):
        photo(np.random.default_rng(index)).save(coco.files.images / f'{index}.jpg')
    extra = [dict(id=i, file_name=f'{i}.jpg', width=WIDTH, height=HEIGHT) for i in range(3, 450)]
    edit(lambda content: content['images'].extend(extra))(coco.files)
    for index in (7, 300):
        (coco.files.images / f'{index}.jpg').write_bytes(b'')
    found = check_every_image('train', coco.build())
    assert [Path(line.split(': ')[0]).stem for line in found] == ['7', '300']


# --- Label maps


@pytest.mark.parametrize('change', MAP_ERRORS.values(), ids=MAP_ERRORS)
def test_wrong_label_maps(change, ade, check):
    change(ade.files)
    with pytest.raises(InputError, match=r'2.png'):
        check(ade.build())


@pytest.mark.parametrize('change', MAP_FINE.values(), ids=MAP_FINE)
def test_legitimate_label_maps(change, ade, check):
    change(ade.files)
    assert check(ade.build()) == []


def test_labels_are_those_that_training_sees(ade, check):
    assert check(ade.build(reduce_zero_label=False, metainfo=dict(classes=(*NAMES, 'x')))) == []
    with pytest.raises(InputError, match='has label 3, but the 3 classes end at 2'):
        check(ade.build(reduce_zero_label=False))
    labels(lambda values: np.full_like(values, 7))(ade.files)
    with pytest.raises(InputError, match=r'label 6 .after reduce_zero_label., but the 3 classes'):
        check(ade.build())
    assert check(ade.build(ignore_index=6)) == []
    assert check(ade.build(metainfo=None)) == []
    two = dict(classes=ADE20KDataset.METAINFO['classes'][5:7])
    assert check(ade.build(ADE20KDataset, metainfo=two, seg_map_suffix='.png')) == []
    without = [dict(type='LoadImageFromFile')]  # a test set without labels
    for file in ade.files.maps.iterdir():
        file.unlink()
    assert check(ade.build(pipeline=without)) == []


def batch(*values, **meta):
    sample = SegDataSample(metainfo=dict(seg_map_path='a.png', **meta))
    sample.gt_sem_seg = PixelData(data=torch.tensor([[values]]))
    return dict(inputs=[], data_samples=[sample])


def head(classes, **options):
    module = nn.Identity()
    for name, value in {'num_classes': classes, 'ignore_index': 255, **options}.items():
        setattr(module, name, value)
    return module


def test_labels_of_a_batch():
    model = nn.ModuleDict(dict(decode_head=head(3)))
    model.decode_head = model['decode_head']
    check_batch_labels(batch(0, 2, 255), model)
    with pytest.raises(InputError, match=r'a.png has label 3, but the 3 classes end at 2'):
        check_batch_labels(batch(0, 3, 255), model)
    model.decode_head = nn.ModuleList([head(9), head(1, ignore_index=7)])
    check_batch_labels(batch(0, 1, 7), model)  # one channel tells two classes apart
    with pytest.raises(InputError, match=r'has label 2 .after reduce_zero_label.'):
        check_batch_labels(batch(2, reduce_zero_label=True), model)
    check_batch_labels(batch(9), nn.Identity())
    check_batch_labels([torch.zeros(1)], model)


# --- The model's heads and preprocessor


def test_normalization(coco, capsys):
    model = nn.Module()
    model.data_preprocessor = head(None, mean=torch.full((3,), 120.0), std=torch.full((3,), 60.0))
    split = Split('train_dataloader.dataset', coco.build())
    check_normalization(model, [split])
    assert capsys.readouterr().err == ''
    split.dataset.pipeline.transforms.append(Normalize([0] * 3, [1] * 3))
    check_normalization(model, [split])
    assert 'train_dataloader.dataset normalizes images, and mod' in capsys.readouterr().err
    model.data_preprocessor.mean /= 255
    model.data_preprocessor.std /= 255
    check_normalization(model, [])
    assert 'multiply both by 255' in capsys.readouterr().err


def test_classes_of_heads(ade, coco):
    splits = [Split('train_dataloader.dataset', ade.build())]
    model = nn.Module()
    model.decode_head, model.rpn_head = head(3, out_channels=3), head(1)
    model.auxiliary_head = nn.ModuleList([head(3), head(2, boundary_threshold=0.1)])
    model.data_preprocessor = head(None)
    check_classes(model, splits)
    check_classes(model, [Split('val_dataloader.dataset', ade.build(metainfo=None))])
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = nn.ModuleList([head(3), head(4)])
    with pytest.raises(InputError) as caught:
        check_classes(model, splits)
    assert 'has 3 classes, but model.roi_head.bbox_head.1.num_classes=4; for 3' in str(caught.value)
    assert 'model.decode_head.num_classes=3' in str(caught.value)
    model.roi_head = head(80)
    model.decode_head = head(2, out_channels=1)
    for use_sigmoid in (True, False):
        model.decode_head.loss_decode = head(None, use_sigmoid=use_sigmoid)
        with nullcontext() if use_sigmoid else pytest.raises(InputError, match='use_sigmoid=True'):
            check_classes(model, [])
    model.decode_head = head(2, out_channels=1)
    check_classes(model, splits)
