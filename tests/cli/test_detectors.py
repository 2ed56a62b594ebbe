"""Small detectors from end to end: each trains two steps, is tested and predicts."""

import json
import pickle

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmca.cli.main import main
from mmca.engine import Runner
from tests.helpers import CONFIGS, iteration_of, write_coco

WIDTHS = (8, 16, 16, 32)
ARCH = {'embed_dims': WIDTHS, 'depths': (1, 1, 1, 1), 'num_heads': (1, 1, 1, 1)}


def shrink(node):
    """Make channels few and images small, wherever they are in a config."""
    if isinstance(node, (list, tuple)):
        for child in node:
            shrink(child)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key.endswith('channels') and value in (256, 1024):
            node[key] = 16
        elif key == 'scale':
            node[key] = (48, 32)
        elif key == 'scales' and isinstance(value[0], tuple):
            node[key] = [(48, 32)]
        elif key == 'crop_size':
            node[key] = (20, 24)
        elif key == 'num_workers':
            node.update(num_workers=0, persistent_workers=False)
        elif key == 'score_thr':
            node[key] = 0.0  # an untrained model must find something
        elif key in ('max_per_img', 'nms_pre'):
            node[key] = 16
        else:
            shrink(value)


@pytest.mark.parametrize(
    'name', ['fasterrcnn_ca_pvt_t', 'retinanet_ca_pvt_t', 'cascade_maskrcnn_ca_pvt_t']
)
def test_it_trains_is_tested_and_predicts(name, tmp_path, monkeypatch, forget):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    for split, number in (('train', 4), ('val', 2)):
        write_coco(tmp_path / 'coco', split, number, CocoDataset.METAINFO['classes'])
    cfg = Config.fromfile(CONFIGS / f'coco/{name}.py')
    shrink(cfg._cfg_dict)
    cfg.model.backbone.arch = ARCH
    cfg.model.neck.in_channels = list(WIDTHS[-len(cfg.model.neck.in_channels) :])
    cfg.train_cfg.max_epochs = 1
    work = tmp_path / 'work'
    cfg.work_dir = str(work)
    Runner.from_cfg(cfg).train()
    checkpoint = work / 'epoch_1.pth'
    assert iteration_of(checkpoint) == 2
    assert list(work.glob(f'best_coco_{"segm" if "mask" in name else "bbox"}_mAP_epoch_1.pth'))

    forget()
    cfg.load_from = str(checkpoint)
    out = dict(type='DumpDetResults', out_file_path=str(tmp_path / 'out.pkl'))
    cfg.test_evaluator = [cfg.test_evaluator, out]
    metrics = Runner.from_cfg(cfg).test()
    assert 'coco/bbox_mAP' in metrics
    assert ('coco/segm_mAP' in metrics) == ('mask' in name)
    found = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert [len(item['pred_instances']['scores']) > 0 for item in found] == [True, True]

    config = tmp_path / f'{name}.py'
    cfg.dump(config)
    images = tmp_path / 'coco/val2017'
    argv = ['predict', str(config), str(checkpoint), str(images), '--out', str(tmp_path / 'p')]
    assert main(argv) == 0
    objects = json.loads((tmp_path / 'p/predictions.json').read_text())['annotations']
    assert len(objects) == sum(len(item['pred_instances']['scores']) for item in found)
    assert all(('segmentation' in item) == ('mask' in name) for item in objects)
