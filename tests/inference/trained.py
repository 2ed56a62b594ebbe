"""A tiny detector and a tiny segmentor with random weights, and images for them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import MODELS, DefaultScope

from mmca.config.reader import load_config
from tests.helpers import CONFIGS, TINY, write_ade, write_coco, write_image

CLASSES = ('disc', 'square', 'triangle', 'star', 'ring')
# Mask R-CNN so small that an iteration takes a tenth of a second.
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
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(
        data_root='ROOT', ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017')))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(
        data_root='ROOT', ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='ROOT/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
"""
SMALL_IMAGES = """
pipeline = _base_.test_pipeline
pipeline[1]['scale'] = (48, 32)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root='ROOT', pipeline=pipeline))
"""


def write_detector(folder: Path) -> Path:
    """Write the small detector's config and four images.

    Args:
        folder: for all of it.

    Returns:
        The config.
    """
    for split, number in (('train', 4), ('val', 2)):
        write_coco(folder / 'data', split, number, CLASSES)
    path = folder / 'detector.py'
    path.write_text(TINY_DETECTOR.replace('ROOT', str(folder / 'data')))
    return path


@dataclass(frozen=True)
class Trained:
    """A config, its checkpoint, and the folder and ground truth of its test images."""

    config: str
    checkpoint: str
    images: Path
    ann: Path


def tiny_detector(folder: Path) -> Trained:
    """Write Mask R-CNN with two images of noise."""
    config = write_detector(folder)
    images = folder / 'data/val2017'
    _write_noise(images.glob('*.jpg'))
    ann = folder / 'data/annotations/instances_val2017.json'
    return Trained(str(config), write_checkpoint(config, 0.06), images, ann)


def tiny_segmentor(folder: Path) -> Trained:
    """Write Semantic FPN with two images of noise."""
    root = write_ade(folder, 1, 2)
    _write_noise((root / 'images/validation').glob('*.jpg'))
    config = folder / 'segmentor.py'
    config.write_text(TINY + SMALL_IMAGES.replace('ROOT', str(root)))
    images, ann = root / 'images/validation', root / 'annotations/validation'
    return Trained(str(config), write_checkpoint(config, 0.3), images, ann)


def noise(seed: int, shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    """An image of noise, (H, W, 3), uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def _write_noise(paths):
    for seed, path in enumerate(sorted(paths)):
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
