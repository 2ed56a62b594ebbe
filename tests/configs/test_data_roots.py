"""Where configs look for data sets, and what their pipelines make of an image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS, MODELS

from tests.configs.table import load, shrink
from tests.helpers import write_ade, write_coco, write_image


@pytest.mark.parametrize('name', ['coco/maskrcnn_ca_swin_t_3x', 'coco/retinanet_ca_pvt_t'])
def test_coco(name, tmp_path, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    for split in ('train', 'val'):
        write_coco(tmp_path / 'coco', split, 1, ('person',))
    cfg = load(name)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    items = [train[0] for _ in range(12)]
    assert all(('masks' in i['data_samples'].gt_instances) == ('mask' in name) for i in items)
    sides = {min(item['inputs'].shape[1:]) for item in items}
    assert len(sides) > 3 if '3x' in name else sides == {800}
    assert sides <= set(range(480, 801, 32))
    item = DATASETS.build(cfg.test_dataloader.dataset)[0]
    assert Path(item['data_samples'].img_path) == tmp_path / 'coco/val2017/0.jpg'
    annotations = tmp_path / 'coco/annotations/instances_val2017.json'
    assert Path(cfg.test_evaluator.ann_file) == annotations
    METRICS.build(cfg.test_evaluator)


def test_ade20k(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    root = write_ade(tmp_path, 1, 1)
    for split in ('training', 'validation'):
        write_image(root / f'images/{split}/0.jpg', np.zeros((48, 64, 3)))
        labels = np.repeat(np.arange(48)[:, None], 64, axis=1)
        write_image(root / f'annotations/{split}/0.png', labels)
    cfg = load('ade20k/upernet_ca_swin_b')
    train = DATASETS.build(cfg.train_dataloader.dataset)
    shapes = [train[0]['inputs'].shape[1:] for _ in range(12)]
    assert max(max(shape) for shape in shapes) == 512
    assert min(min(shape) for shape in shapes) >= 256
    item = DATASETS.build(cfg.test_dataloader.dataset)[0]
    assert item['inputs'].shape == (3, 512, 683)
    # 0 is no class, class k is label k - 1, at the size of the original image.
    truth = item['data_samples'].gt_sem_seg.data
    assert truth.shape == (1, 48, 64)
    assert truth[0, :, 0].tolist() == [255, *range(47)]

    cfg = shrink('ade20k/fpn_ca_pvt_t')
    transforms = cfg.tta_pipeline[1].transforms
    assert [item.scale[1] for item in transforms[0]] == [256, 384, 512, 640, 768, 896]
    transforms[0] = [{**transforms[0][0], 'scale': (128, 64)}]
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    batch = pseudo_collate([DATASETS.build(cfg.test_dataloader.dataset)[0]])
    model = MODELS.build({**cfg.tta_model, 'module': cfg.model}).eval()
    with torch.no_grad():
        (sample,) = model.test_step(batch)
    assert sample.pred_sem_seg.shape == (48, 64)
