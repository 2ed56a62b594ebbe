"""Recipe, drop path rate, backbone and size of every shipped config, and small versions of them."""

import re
from importlib.util import find_spec

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmca.config.reader import load_config
from mmca.config.shipped import config_names

# Pattern of a config's name, recipe, drop path rate; the first match counts.
RULES = (
    ('coco/cascade.*(pvt_s|swin)', 'swin_3x', 0.2),
    ('coco/(cascade|.*_3x)', 'swin_3x', 0.1),
    ('coco/retinanet.*pvt_t', 'retinanet_pvt_1x', 0.1),
    ('coco/retinanet.*pvt_s', 'retinanet_pvt_1x', 0.2),
    ('coco/.*pvt_[tm]', 'pvt_1x', 0.1),
    ('coco/.*pvt_[sl]', 'pvt_1x', 0.2),
    ('coco/.*deit_b', 'swin_1x', 0.2),
    ('coco/', 'swin_1x', 0.1),
    ('ade20k/upernet.*swin_b', 'upernet', 0.5),
    ('ade20k/upernet.*swin', 'upernet', 0.3),
    ('ade20k/upernet.*(deit_b|pvt_m)', 'upernet', 0.2),
    ('ade20k/upernet', 'upernet', 0.1),
    ('ade20k/fpn.*_m', 'fpn', 0.2),
    ('ade20k/fpn', 'fpn', 0.1),
    ('imagenet/ca_swin_b', 'imagenet', 0.5),
    ('imagenet/ca_(pvt_[ml]|swin_s)', 'imagenet', 0.3),
    ('imagenet/ca_swin_t', 'imagenet', 0.2),
    ('imagenet/', 'imagenet', 0.1),
    ('(camvid|penn_fudan)/', 'small', 0.1),
)
CONFIGS = {  # name -> recipe, drop path rate
    name: next(rule[1:] for rule in RULES if re.match(rule[0], name))
    for name in config_names()
    if not name.startswith('mini/')
}
# recipe: (lr, weight decay, epochs or iterations, warm-up (end, factor), decay, batch size)
RECIPES = {
    'pvt_1x': (2e-4, 1e-4, 12, (500, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}, 16),
    'retinanet_pvt_1x': (1e-4, 1e-4, 12, (500, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}, 16),
    'swin_1x': (1e-4, 0.05, 12, (1000, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}, 16),
    'swin_3x': (1e-4, 0.05, 36, (1000, 1e-3), {'milestones': [27, 33], 'gamma': 0.1}, 16),
    'upernet': (6e-5, 0.01, 160_000, (1500, 1e-6), {'power': 1.0, 'eta_min': 0.0}, 16),
    'fpn': (2e-4, 1e-4, 40_000, None, {'power': 0.9, 'eta_min': 0.0}, 16),
    'imagenet': (1e-3, 0.05, 300, (20, 1e-3), {'eta_min': 1e-5}, 1024),
}
SIZES = {'t': 'tiny', 's': 'small', 'm': 'medium', 'b': 'base', 'l': 'large'}


def params(names, slow=()) -> list:
    """Parameters for pytest; those of ImageNet need mmpretrain."""
    absent = pytest.mark.skipif(find_spec('mmpretrain') is None, reason='needs mmpretrain')
    marks = {n: [pytest.mark.slow] * (n in slow) for n in names}
    return [pytest.param(n, marks=[*marks[n], *[absent] * n.startswith('imagenet')]) for n in names]


def backbone_of(name: str) -> tuple[str, str]:
    """Class and size in the name of a config."""
    method, family, size = re.search(
        r'(ca_|flatten_)?(pvt|cswin|swin|deit)_([tsmbl])', name
    ).groups()
    families = {'pvt': 'PVT', 'swin': 'Swin', 'cswin': 'CSwin', 'deit': 'DeiT'}
    return {'ca_': 'CA', 'flatten_': 'FLatten', None: ''}[method] + families[family], SIZES[size]


def load(name: str) -> Config:
    """A config, in its library's scope."""
    cfg = load_config(name)
    init_default_scope(cfg.default_scope)
    return cfg


def shrink(name: str) -> Config:
    """A config with few blocks and no stochastic depth, with a backbone of full width."""
    from mmca import backbones

    kind, size = backbone_of(name)
    arch = dict(getattr(backbones, kind).arch_zoo[size])
    arch |= {'depth': 2} if 'DeiT' in kind else {'depths': (1, 1, 2, 1)}
    cfg = load(name)
    cfg.model.backbone.update(arch=arch, drop_path_rate=0.0)
    options = {}
    # No threshold: an untrained model must have masks to draw.
    if 'retinanet' in name:
        options = {'test_cfg.max_per_img': 8, 'test_cfg.score_thr': 0.0}
    elif cfg.default_scope == 'mmdet':
        stages = [f'{i}.' for i in range(3)] if 'cascade' in name else ['']
        options = {f'train_cfg.rcnn.{stage}sampler.num': 8 for stage in stages}
        bbox_heads = [f'roi_head.bbox_head.{stage}'.rstrip('.') for stage in stages]
        options |= {f'{head}.fc_out_channels': 32 for head in bbox_heads}
        options |= {'train_cfg.rpn_proposal.max_per_img': 32, 'test_cfg.rpn.max_per_img': 16}
        options |= {'test_cfg.rcnn.max_per_img': 8, 'test_cfg.rcnn.score_thr': 0.0}
    elif cfg.default_scope == 'mmseg':
        options = {'data_preprocessor.size': (64, 96), 'decode_head.channels': 32}
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    return cfg


def demo_data(cfg: Config, batch_size: int, height: int, width: int) -> dict:
    """A batch of noise with labels, as the library's data loader gives it."""
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        shapes = [(3, height, width)] * batch_size
        return demo_mm_inputs(batch_size, shapes, num_classes=80, with_mask=True)
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, 3, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    if cfg.default_scope == 'mmpretrain':
        from mmpretrain.structures import DataSample

        labels = torch.randint(0, 1000, (batch_size,), generator=generator).tolist()
        samples = [DataSample(metainfo={'num_classes': 1000}).set_gt_label(n) for n in labels]
        return {'inputs': images, 'data_samples': samples}
    from mmseg.structures import SegDataSample

    meta = {'ori_shape': (height, width), 'img_shape': (height, width)}
    labels = torch.randint(0, 150, (batch_size, 1, height, width), generator=generator)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=meta) for label in labels]
    return pseudo_collate(
        [{'inputs': i, 'data_samples': s} for i, s in zip(images, samples, strict=True)]
    )
