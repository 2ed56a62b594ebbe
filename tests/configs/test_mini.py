"""The configs of the synthetic data set: its classes, a step on its images, a prediction."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from tools.mini import STUFF, THINGS, make_mini
from tests.helpers import CONFIGS


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_mini(root / 'mini', train=4, val=1)
    return root


@pytest.mark.parametrize('name', ['maskrcnn_ca_pvt_mini', 'upernet_ca_swin_mini'])
def test_a_step_and_a_prediction(name, data_root, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(data_root))
    cfg = Config.fromfile(CONFIGS / f'mini/{name}.py')
    init_default_scope(cfg.default_scope)
    classes = THINGS if cfg.default_scope == 'mmdet' else THINGS + STUFF
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
        assert tuple(cfg[key].dataset.metainfo.classes) == classes

    model = MODELS.build(cfg.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    assert len(batch['inputs']) == 4
    assert torch.isfinite(model.train().train_step(batch, optim_wrapper)['loss'])
    batch = next(iter(Runner.build_dataloader(cfg.val_dataloader)))
    with torch.no_grad():
        (sample,) = model.eval().test_step(batch)
    assert sample.ori_shape == (128, 160)
    if cfg.default_scope == 'mmseg':
        assert int(sample.gt_sem_seg.data[sample.gt_sem_seg.data != 255].max()) < len(classes)
