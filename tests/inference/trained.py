"""A tiny detector and a tiny segmentor with random weights, and images for them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.registry import MODELS, DefaultScope

from mmca.config.reader import load_config
from tests.helpers import CONFIGS, TINY, write_ade, write_coco, write_image

SLIDE = [  # options that make a segmentor see images in parts
    'model.test_cfg.mode=slide',
    'model.test_cfg.crop_size=(32,32)',
    'model.test_cfg.stride=(16,16)',
]
CLASSES = ('disc', 'square', 'triangle', 'star', 'ring')
# Mask R-CNN that predicts in a tenth of a second.
TINY_DETECTOR = f"""
_base_ = {str(CONFIGS / 'mini/maskrcnn_ca_pvt_mini.py')!r}
model = dict(
    backbone=dict(arch=dict(
        embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1),
        mlp_ratios=(1, 1, 1, 1))),
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1)))
test_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(
        data_root='ROOT', ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017')))
"""
SMALL_IMAGES = """
pipeline = _base_.test_pipeline
pipeline[1]['scale'] = (48, 32)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root='ROOT', pipeline=pipeline))
"""


class Trained(NamedTuple):
    """A config, its checkpoint, and the folder and ground truth of its test images."""

    config: str
    checkpoint: str
    images: Path
    ann: Path


def tiny_detector(folder: Path) -> Trained:
    """Write Mask R-CNN with two images of noise."""
    ann = write_coco(folder / 'data', 'val', 2, CLASSES)
    config, images = folder / 'detector.py', folder / 'data/val2017'
    config.write_text(TINY_DETECTOR.replace('ROOT', str(folder / 'data')))
    write_noise(images)
    return Trained(str(config), write_checkpoint(config, 0.06), images, ann)


def tiny_segmentor(folder: Path) -> Trained:
    """Write Semantic FPN with two images of noise."""
    root = write_ade(folder, 1, 2)
    config, images = folder / 'segmentor.py', root / 'images/validation'
    config.write_text(TINY + SMALL_IMAGES.replace('ROOT', str(root)))
    write_noise(images)
    return Trained(
        str(config), write_checkpoint(config, 0.3), images, root / 'annotations/validation'
    )


def noise(seed: int, shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    """An image of noise, (H, W, 3), uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def write_noise(folder: Path) -> None:
    for seed, path in enumerate(sorted(folder.glob('*.jpg'))):
        write_image(path, noise(seed))


def write_checkpoint(config: Path, std: float) -> str:
    """Write random weights beside a config, and return the file."""
    torch.manual_seed(0)
    cfg = load_config(str(config))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    path = config.with_suffix('.pth')
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return str(path)
