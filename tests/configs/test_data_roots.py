"""Where the configs look for COCO and ADE20K, and what their pipelines make of an image."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS, MODELS
from PIL import Image

from tests.configs.table import load, shrink


@pytest.fixture
def coco_root(tmp_path, monkeypatch):
    """A COCO of one image a split, 64 x 48, in MMCA_DATA_ROOT."""
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    rng = np.random.default_rng(0)
    (tmp_path / 'coco/annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (tmp_path / 'coco' / split).mkdir()
        image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / 'coco' / split / f'{split}.jpg')
        annotation = {
            'id': 1,
            'image_id': 1,
            'category_id': 1,
            'bbox': [8, 8, 40, 32],
            'area': 1280,
            'iscrowd': 0,
            'segmentation': [[8, 8, 48, 8, 48, 40, 8, 40]],
        }
        truth = {
            'images': [{'id': 1, 'file_name': f'{split}.jpg', 'width': 64, 'height': 48}],
            'categories': [{'id': 1, 'name': 'person'}],
            'annotations': [annotation],
        }
        path = tmp_path / 'coco/annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(truth))
    return tmp_path / 'coco'


@pytest.mark.parametrize(
    'name',
    [
        'coco/maskrcnn_ca_pvt_t',
        'coco/maskrcnn_ca_swin_t_3x',
        'coco/retinanet_ca_pvt_t',
        'coco/fasterrcnn_ca_swin_t',
    ],
)
def test_coco_is_read_from_the_data_root(name, coco_root):
    cfg = load(name)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    items = [train[0] for _ in range(12)]
    masks = 'maskrcnn' in name
    sides = {tuple(item['inputs'].shape[1:]) for item in items}
    for item in items:
        sample = item['data_samples']
        assert Path(sample.img_path) == coco_root / 'train2017/train2017.jpg'
        assert ('masks' in sample.gt_instances) == masks
        if masks:
            assert len(sample.gt_instances.masks) == len(sample.gt_instances.bboxes)
    if 'swin' in name:
        assert len(sides) > 3
        assert {min(side) for side in sides} <= set(range(480, 801, 32))
    else:
        assert sides == {(800, 1067)}

    for loader, metric in (
        (cfg.val_dataloader, cfg.val_evaluator),
        (cfg.test_dataloader, cfg.test_evaluator),
    ):
        item = DATASETS.build(loader.dataset)[0]
        assert Path(item['data_samples'].img_path) == coco_root / 'val2017/val2017.jpg'
        assert item['inputs'].shape == (3, 800, 1067)
        assert item['data_samples'].ori_shape == (48, 64)
        assert Path(metric.ann_file) == coco_root / 'annotations/instances_val2017.json'
        assert METRICS.build(metric).metrics == (['bbox', 'segm'] if masks else ['bbox'])


@pytest.fixture
def ade20k_root(tmp_path, monkeypatch):
    """An ADE20K of one image a split, 64 x 48, in MMCA_DATA_ROOT."""
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    rng = np.random.default_rng(0)
    root = tmp_path / 'ADEChallengeData2016'
    labels = np.repeat(np.arange(48, dtype=np.uint8)[:, None], 64, axis=1)
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / 'images' / split / f'{split}.jpg')
        Image.fromarray(labels).save(root / 'annotations' / split / f'{split}.png')
    return root


def test_ade20k_is_read_from_the_data_root(ade20k_root):
    cfg = load('ade20k/upernet_ca_swin_b')
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert Path(train[0]['data_samples'].img_path).stem == 'training'
    shapes = [train[0]['inputs'].shape[1:] for _ in range(12)]
    assert max(max(shape) for shape in shapes) == 512
    assert min(min(shape) for shape in shapes) >= 256

    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        item = DATASETS.build(loader.dataset)[0]
        assert Path(item['data_samples'].img_path).stem == 'validation'
        assert item['inputs'].shape == (3, 512, 683)
        truth = item['data_samples'].gt_sem_seg.data
        # 0 is no class, class k is label k - 1, at the size of the original image.
        assert truth.shape == (1, 48, 64)
        assert truth[0, :, 0].tolist() == [255, *range(47)]
    assert len(train.metainfo['classes']) == 150
    METRICS.build(cfg.test_evaluator)


def test_ade20k_test_time_augmentation(ade20k_root):
    cfg = shrink('ade20k/fpn_ca_pvt_t')
    scales = [item.scale for item in cfg.tta_pipeline[1].transforms[0]]
    assert scales == [(1024, 256), (1536, 384), (2048, 512), (2560, 640), (3072, 768), (3584, 896)]
    cfg.merge_from_dict({'tta_pipeline.1.transforms.0.0.scale': (128, 64)})
    cfg.tta_pipeline[1].transforms[0] = cfg.tta_pipeline[1].transforms[0][:1]

    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    batch = pseudo_collate([DATASETS.build(cfg.test_dataloader.dataset)[0]])
    assert [inputs[0].shape[1:] for inputs in batch['inputs']] == [(64, 85), (64, 85)]
    model = MODELS.build({**cfg.tta_model, 'module': cfg.model}).eval()
    with torch.no_grad():
        (sample,) = model.test_step(batch)
    assert sample.pred_sem_seg.shape == (48, 64)


def test_the_data_root_has_a_default(monkeypatch):
    monkeypatch.delenv('MMCA_DATA_ROOT', raising=False)
    assert load('coco/maskrcnn_ca_pvt_t').train_dataloader.dataset.data_root == 'data/coco'
    root = load('ade20k/fpn_ca_pvt_t').train_dataloader.dataset.data_root
    assert root == 'data/ADEChallengeData2016'
