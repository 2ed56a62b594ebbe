"""Adapt configs of mmdet and mmseg to a backbone; train for a step and predict on real images."""

import os
import time
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmca.config import adapt
from mmca.config.reader import load_config, read_config
from mmca.config.shipped import config_names, library_configs
from mmca.errors import InputError

# One of each kind; the images are COCO's and ADE20K's.
CONFIGS = (
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco',
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'mmdet::atss/atss_r50_fpn_1x_coco',
    'mmdet::detr/detr_r50_8xb2-150e_coco',
    'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco',
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco',
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco',
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'mmdet::solov2/solov2_r50_fpn_1x_coco',
    'mmdet::queryinst/queryinst_r50_fpn_1x_coco',
    'mmdet::htc/htc-without-semantic_r50_fpn_1x_coco',
    'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512',
    'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512',
    'mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512',
    'mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512',
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512',
    'mmseg::knet/knet-s3_r50-d8_upernet_8xb2-adamw-80k_ade20k-512x512',
    'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512',
)
SIDE = 320  # pixels; the configs' own sizes take minutes on a CPU
IMAGES = 2
SIZES = ('scale', 'scales', 'img_scale', 'crop_size', 'size')  # in pipelines
ROOTS = {'mmdet': ('coco', 'coco_sample'), 'mmseg': ('ade', 'ade20k_sample')}


def try_adapted(backbone: str, root: str) -> Iterator[str]:
    """Adapt every config, train for a step and predict.

    Args:
        backbone: as in the shipped configs' names.
        root: the folder of coco_sample and ade20k_sample.

    Yields:
        A line for each: loss, seconds, parameters of the backbone without a gradient, predictions.
    """
    MMLogger.get_instance('mmengine', log_level='ERROR')  # a line for every parameter otherwise
    for name in CONFIGS:
        cfg = adapt(load_config(name), backbone)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            yield f'{name}, {backbone}: {_step(cfg, root)}'


def refused(library: str, backbone: str, every: int = 1) -> Iterator[str]:
    """Adapt all configs that come with a library, without training.

    Args:
        library: 'mmdet' or 'mmseg'.
        backbone: as in the shipped configs' names.
        every: take each N-th config.

    Yields:
        A line for each config that is refused, then their number.
    """
    names = [name for name in config_names(library_configs(library)) if '/' in name]
    names = [name for name in names if not name.startswith('common/')][::every]
    number = 0
    for name in names:
        try:
            adapt(read_config(f'{library}::{name}'), backbone)
        except InputError as error:
            number += 1
            yield f'{name}: {error}'
    yield f'{library}, {backbone}: {len(names) - number} of {len(names)} configs adapted'


def _step(cfg: Config, root: str) -> str:
    torch.manual_seed(0)
    cfg = Config(_smaller(cfg.to_dict()))
    data = {}
    for split in ('train', 'val'):
        dataset = cfg[f'{split}_dataloader'].dataset
        while 'dataset' in dataset:  # a wrapper that mixes or repeats
            dataset = dataset.dataset
        dataset.data_root = os.path.join(root, ROOTS[cfg.default_scope][1])
        if cfg.default_scope == 'mmseg':  # the sample has this split alone
            dataset.data_prefix = {
                'img_path': 'images/validation',
                'seg_map_path': 'annotations/validation',
            }
        data[split] = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
    model = MODELS.build(cfg.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    start = time.perf_counter()
    model.eval()
    try:
        with torch.no_grad():
            (result,) = model.test_step(pseudo_collate([data['val'][0]]))
    except RuntimeError as error:  # QueryInst pastes masks of untrained boxes, with a ResNet too
        found = f'no prediction ({error})'
    else:
        found = (
            f'{len(result.pred_instances)} objects'
            if 'pred_instances' in result
            else f'{result.pred_sem_seg.data.unique().numel()} classes'
        )
    idle = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    for name, parameter in model.backbone.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: idle.discard(name))
    model.train()
    batch = pseudo_collate([data['train'][index] for index in range(IMAGES)])
    loss = model.train_step(batch, optim_wrapper)['loss']
    seconds = time.perf_counter() - start
    return f'loss {float(loss):.2f}, {len(idle)} without gradient, {found}, {seconds:.1f} s'


def _smaller(node: Any, key: str = '') -> Any:
    """A config in which every image size is at most SIDE; annotations keep their files."""
    if isinstance(node, dict):
        return {name: _smaller(value, name) for name, value in node.items()}
    if not isinstance(node, (list, tuple)):
        return min(node, SIDE) if key in SIZES and isinstance(node, int) else node
    return type(node)(_smaller(value, key) for value in node)
