"""The configs for CamVid and Penn-Fudan: they say the same but for the backbone, and build."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmca.layers import CirculantAttention, FocusedLinearAttention
from tests.helpers import CONFIGS as CONFIG_ROOT
from tests.helpers import declared_parameters

# name: (type, circulant blocks, linear blocks)
BACKBONES = {
    'camvid/fpn_ca_pvt_t': ('CAPVT', 4, 0),
    'camvid/fpn_pvt_t': ('PVT', 0, 0),
    'camvid/fpn_flatten_pvt_t': ('FLattenPVT', 0, 8),
    'camvid/fpn_ca_swin_t': ('CASwin', 4, 0),
    'camvid/fpn_swin_t': ('Swin', 0, 0),
    'camvid/fpn_flatten_swin_t': ('FLattenSwin', 0, 4),
    'camvid/fpn_ca_deit_t': ('CADeiT', 12, 0),
    'camvid/fpn_deit_t': ('DeiT', 0, 0),
    'camvid/upernet_ca_swin_t': ('CASwin', 4, 0),
    'camvid/upernet_swin_t': ('Swin', 0, 0),
    'penn_fudan/maskrcnn_ca_pvt_t': ('CAPVT', 4, 0),
    'penn_fudan/maskrcnn_pvt_t': ('PVT', 0, 0),
    'penn_fudan/maskrcnn_ca_deit_t': ('CADeiT', 12, 0),
    'penn_fudan/maskrcnn_deit_t': ('DeiT', 0, 0),
}


def load(name):
    cfg = Config.fromfile(CONFIG_ROOT / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def test_the_configs_are_those_of_the_table():
    folders = ('camvid', 'penn_fudan')
    found = {f'{d}/{path.stem}' for d in folders for path in (CONFIG_ROOT / d).glob('*.py')}
    assert found == set(BACKBONES)


@pytest.mark.parametrize('name', BACKBONES)
def test_it_builds_for_the_classes_of_its_data(name):
    family, circulant, linear = BACKBONES[name]
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == family
    assert sum(p.numel() for p in model.parameters()) == declared_parameters(name)
    kinds = [type(module) for module in model.backbone.modules()]
    assert kinds.count(CirculantAttention) == circulant
    assert kinds.count(FocusedLinearAttention) == linear
    classes = len(cfg.train_dataloader.dataset.metainfo.classes)
    if name.startswith('camvid'):
        assert model.decode_head.num_classes == model.out_channels == classes == 11
    else:
        head = model.roi_head
        assert head.bbox_head.num_classes == head.mask_head.num_classes == classes == 1


@pytest.mark.parametrize(
    'compared',
    ['camvid/fpn', 'camvid/upernet', r'penn_fudan/maskrcnn_(ca_)?pvt', r'penn_fudan/.*deit'],
)
def test_budgets_are_equal_where_models_are_compared(compared):
    configs = [load(name) for name in BACKBONES if re.match(compared, name)]
    assert len(configs) > 1
    for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'train_dataloader', 'randomness'):
        assert all(cfg[key] == configs[0][key] for cfg in configs)
    for cfg in configs:
        assert cfg.model.backbone.drop_path_rate == 0.1
