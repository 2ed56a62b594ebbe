"""The configs for COCO and ADE20K, what each must say, and small versions of them."""

import argparse

import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from tests.helpers import CONFIGS as CONFIG_ROOT

PVT = [64, 128, 320, 512]
SWIN = [96, 192, 384, 768]
SWIN_B = [128, 256, 512, 1024]
DEIT_T, DEIT_S, DEIT_B = [192], [384], [768]

# name: (type, arch, drop path, channels, blocks, of which circulant, recipe)
CONFIGS = {
    'coco/maskrcnn_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'pvt_1x'),
    'coco/maskrcnn_ca_pvt_s': ('CAPVT', 'small', 0.2, PVT, 16, 7, 'pvt_1x'),
    'coco/maskrcnn_ca_pvt_m': ('CAPVT', 'medium', 0.1, PVT, 28, 7, 'pvt_1x'),
    'coco/maskrcnn_ca_pvt_l': ('CAPVT', 'large', 0.2, PVT, 41, 11, 'pvt_1x'),
    'coco/maskrcnn_pvt_s': ('PVT', 'small', 0.2, PVT, 16, 0, 'pvt_1x'),
    'coco/maskrcnn_ca_swin_t': ('CASwin', 'tiny', 0.1, SWIN, 12, 4, 'swin_1x'),
    'coco/maskrcnn_ca_swin_s': ('CASwin', 'small', 0.1, SWIN, 24, 4, 'swin_1x'),
    'coco/maskrcnn_swin_t': ('Swin', 'tiny', 0.1, SWIN, 12, 0, 'swin_1x'),
    'coco/maskrcnn_ca_swin_t_3x': ('CASwin', 'tiny', 0.1, SWIN, 12, 4, 'swin_3x'),
    'coco/maskrcnn_ca_swin_s_3x': ('CASwin', 'small', 0.1, SWIN, 24, 4, 'swin_3x'),
    'coco/maskrcnn_ca_deit_t': ('CADeiT', 'tiny', 0.1, DEIT_T, 12, 12, 'swin_1x'),
    'coco/maskrcnn_ca_deit_s': ('CADeiT', 'small', 0.1, DEIT_S, 12, 12, 'swin_1x'),
    'coco/maskrcnn_ca_deit_b': ('CADeiT', 'base', 0.2, DEIT_B, 12, 12, 'swin_1x'),
    'coco/maskrcnn_flatten_pvt_t': ('FLattenPVT', 'tiny', 0.1, PVT, 8, 0, 'pvt_1x'),
    'coco/maskrcnn_flatten_pvt_s': ('FLattenPVT', 'small', 0.2, PVT, 16, 0, 'pvt_1x'),
    'coco/maskrcnn_flatten_swin_t': ('FLattenSwin', 'tiny', 0.1, SWIN, 12, 0, 'swin_1x'),
    'coco/fasterrcnn_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'pvt_1x'),
    'coco/fasterrcnn_ca_pvt_s': ('CAPVT', 'small', 0.2, PVT, 16, 7, 'pvt_1x'),
    'coco/fasterrcnn_ca_swin_t': ('CASwin', 'tiny', 0.1, SWIN, 12, 4, 'swin_1x'),
    'coco/fasterrcnn_ca_swin_s': ('CASwin', 'small', 0.1, SWIN, 24, 4, 'swin_1x'),
    'coco/fasterrcnn_ca_deit_t': ('CADeiT', 'tiny', 0.1, DEIT_T, 12, 12, 'swin_1x'),
    'coco/retinanet_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'retinanet_pvt_1x'),
    'coco/retinanet_ca_pvt_s': ('CAPVT', 'small', 0.2, PVT, 16, 7, 'retinanet_pvt_1x'),
    'coco/retinanet_ca_swin_t': ('CASwin', 'tiny', 0.1, SWIN, 12, 4, 'swin_1x'),
    'coco/retinanet_ca_swin_s': ('CASwin', 'small', 0.1, SWIN, 24, 4, 'swin_1x'),
    'coco/retinanet_ca_deit_t': ('CADeiT', 'tiny', 0.1, DEIT_T, 12, 12, 'swin_1x'),
    'coco/cascade_maskrcnn_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'swin_3x'),
    'coco/cascade_maskrcnn_ca_pvt_s': ('CAPVT', 'small', 0.2, PVT, 16, 7, 'swin_3x'),
    'coco/cascade_maskrcnn_ca_swin_t': ('CASwin', 'tiny', 0.2, SWIN, 12, 4, 'swin_3x'),
    'coco/cascade_maskrcnn_ca_swin_s': ('CASwin', 'small', 0.2, SWIN, 24, 4, 'swin_3x'),
    'coco/cascade_maskrcnn_ca_deit_t': ('CADeiT', 'tiny', 0.1, DEIT_T, 12, 12, 'swin_3x'),
    'ade20k/upernet_ca_deit_t': ('CADeiT', 'tiny', 0.1, DEIT_T, 12, 12, 'upernet'),
    'ade20k/upernet_ca_deit_s': ('CADeiT', 'small', 0.1, DEIT_S, 12, 12, 'upernet'),
    'ade20k/upernet_ca_deit_b': ('CADeiT', 'base', 0.2, DEIT_B, 12, 12, 'upernet'),
    'ade20k/upernet_flatten_swin_t': ('FLattenSwin', 'tiny', 0.3, SWIN, 12, 0, 'upernet'),
    'ade20k/upernet_flatten_swin_s': ('FLattenSwin', 'small', 0.3, SWIN, 24, 0, 'upernet'),
    'ade20k/fpn_flatten_pvt_t': ('FLattenPVT', 'tiny', 0.1, PVT, 8, 0, 'fpn'),
    'ade20k/fpn_flatten_pvt_s': ('FLattenPVT', 'small', 0.1, PVT, 16, 0, 'fpn'),
    'ade20k/upernet_ca_swin_t': ('CASwin', 'tiny', 0.3, SWIN, 12, 4, 'upernet'),
    'ade20k/upernet_ca_swin_s': ('CASwin', 'small', 0.3, SWIN, 24, 4, 'upernet'),
    'ade20k/upernet_ca_swin_b': ('CASwin', 'base', 0.5, SWIN_B, 24, 4, 'upernet'),
    'ade20k/upernet_swin_t': ('Swin', 'tiny', 0.3, SWIN, 12, 0, 'upernet'),
    'ade20k/upernet_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'upernet'),
    'ade20k/upernet_ca_pvt_s': ('CAPVT', 'small', 0.1, PVT, 16, 7, 'upernet'),
    'ade20k/upernet_ca_pvt_m': ('CAPVT', 'medium', 0.2, PVT, 28, 7, 'upernet'),
    'ade20k/upernet_ca_pvt_l': ('CAPVT', 'large', 0.1, PVT, 41, 11, 'upernet'),
    'ade20k/fpn_ca_pvt_t': ('CAPVT', 'tiny', 0.1, PVT, 8, 4, 'fpn'),
    'ade20k/fpn_ca_pvt_s': ('CAPVT', 'small', 0.1, PVT, 16, 7, 'fpn'),
    'ade20k/fpn_ca_pvt_m': ('CAPVT', 'medium', 0.2, PVT, 28, 7, 'fpn'),
    'ade20k/fpn_ca_pvt_l': ('CAPVT', 'large', 0.1, PVT, 41, 11, 'fpn'),
    'ade20k/fpn_pvt_s': ('PVT', 'small', 0.1, PVT, 16, 0, 'fpn'),
}

METHODS = ('maskrcnn', 'fasterrcnn', 'retinanet', 'cascade_maskrcnn', 'upernet', 'fpn')

# recipe: (lr, weight decay, epochs or iterations, warm-up (iterations, factor), decay)
RECIPES = {
    'pvt_1x': (2e-4, 1e-4, 12, (500, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}),
    'retinanet_pvt_1x': (1e-4, 1e-4, 12, (500, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}),
    'swin_1x': (1e-4, 0.05, 12, (1000, 1e-3), {'milestones': [8, 11], 'gamma': 0.1}),
    'swin_3x': (1e-4, 0.05, 36, (1000, 1e-3), {'milestones': [27, 33], 'gamma': 0.1}),
    'upernet': (6e-5, 0.01, 160_000, (1500, 1e-6), {'power': 1.0, 'eta_min': 0.0}),
    'fpn': (2e-4, 1e-4, 40_000, None, {'power': 0.9, 'eta_min': 0.0}),
}


def load(name: str, *options: str) -> Config:
    """A config with options as `--cfg-options` takes them, its library's scope switched on."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args(['--cfg-options', *options] if options else [])
    cfg = Config.fromfile(CONFIG_ROOT / f'{name}.py')
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.default_scope)
    return cfg


def method(name: str) -> str:
    """The method in the name of a config: 'maskrcnn', 'retinanet', 'upernet' and so on."""
    stem = name.partition('/')[2]
    return next(m for m in METHODS if stem.startswith(m))


def shrink(name: str) -> Config:
    """A config with few blocks and no stochastic depth; all widths as they are."""
    family, _, _, channels, *_ = CONFIGS[name]
    depths = 'depth=2' if 'DeiT' in family else 'depths=(1,1,2,1)'
    options = [
        'model.backbone.arch._delete_=True',
        f'model.backbone.arch.{depths}',
        'model.backbone.drop_path_rate=0.0',
    ]
    if 'DeiT' in family:
        options += [
            f'model.backbone.arch.embed_dims={channels[0]}',
            f'model.backbone.arch.num_heads={channels[0] // 64}',
        ]
    if 'Swin' in family:
        heads = ','.join(str(width // 32) for width in channels)
        options += [
            f'model.backbone.arch.embed_dims={channels[0]}',
            f'model.backbone.arch.num_heads=({heads})',
        ]
    # No threshold: an untrained model must have something to draw masks for.
    if method(name) == 'retinanet':
        options += ['model.test_cfg.max_per_img=8', 'model.test_cfg.score_thr=0.0']
    elif name.startswith('coco'):
        stages = [f'{i}.' for i in range(3)] if 'cascade' in name else ['']
        options += [f'model.train_cfg.rcnn.{stage}sampler.num=8' for stage in stages]
        options += [
            'model.train_cfg.rpn_proposal.max_per_img=32',
            'model.test_cfg.rpn.max_per_img=16',
            'model.test_cfg.rcnn.max_per_img=8',
            'model.test_cfg.rcnn.score_thr=0.0',
        ]
    else:
        options.append('model.data_preprocessor.size=(64,96)')
    return load(name, *options)


def demo_data(cfg: Config, batch_size: int, height: int, width: int) -> dict:
    """A batch of noise with labels, as the library's data loader gives it."""
    if cfg.default_scope == 'mmdet':
        shapes = [(3, height, width)] * batch_size
        return demo_mm_inputs(batch_size, shapes, num_classes=80, with_mask=True)
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(batch_size):
        labels = torch.randint(0, 150, (1, height, width), generator=generator)
        meta = {'ori_shape': (height, width), 'img_shape': (height, width)}
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta)
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        items.append({'inputs': image, 'data_samples': sample})
    return pseudo_collate(items)
