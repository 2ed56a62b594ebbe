"""Tiny data sets without faults, in the layouts of mmdet and mmseg, and configs for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.helpers import DET, SEG

NAMES = ('date', 'fig', 'hazelnut')
WIDTH, HEIGHT = 64, 48
NUMBER = 6  # images a split
VICTIM = 2  # the image that most cases damage


class Files(NamedTuple):
    """Where one split lies: its images, and its COCO file or its label maps."""

    images: Path
    json: Path
    maps: Path

    @property
    def image(self) -> Path:
        return self.images / f'{VICTIM}.jpg'

    @property
    def map(self) -> Path:
        return self.maps / f'{VICTIM}.png'


def write_good(root: Path, kind: str, number: int = NUMBER) -> dict[str, Files]:
    """Write a data set of a kind, 'coco' or 'ade'; returns its splits, 'train' and 'test'."""
    rng = np.random.default_rng(0)
    splits = {}
    for split in ('train', 'test'):
        files = Files(root / 'images' / split, root / f'{split}.json', root / 'maps' / split)
        splits[split] = files
        for folder in (files.images, files.maps):
            folder.mkdir(parents=True)
        for index in range(number):
            photo(rng).save(files.images / f'{index}.jpg')
            labels = rng.integers(0, len(NAMES) + 1, (HEIGHT, WIDTH), dtype=np.uint8)
            Image.fromarray(labels).save(files.maps / f'{index}.png')
        if kind == 'coco':
            files.json.write_text(json.dumps(coco_content(number)))
    return splits


def photo(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def coco_content(number: int = NUMBER) -> dict:
    """The content of a COCO file: two objects an image, and a category without objects."""
    size = {'width': WIDTH, 'height': HEIGHT}
    places = [(index, *place) for index in range(number) for place in ((4, 1), (34, 2))]
    return {
        'images': [{'id': i, 'file_name': f'{i}.jpg', **size} for i in range(number)],
        'annotations': [
            {
                **{'id': 100 + i, 'image_id': index, 'category_id': category, 'iscrowd': 0},
                **{'bbox': [x, 6, 24, 30], 'area': 720},
                'segmentation': [[x, 6, x + 24, 6, x + 24, 36, x, 36]],
            }
            for i, (index, x, category) in enumerate(places)
        ],
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(NAMES)],
    }


_BACKBONE = """dict(_delete_=True, type='mmca.CAPVT', arch=dict(
        embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)))"""
_CONFIGS = {
    'coco': f"""
_base_ = {DET!r}
model = dict(
    backbone={_BACKBONE},
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=3),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=3)),
    test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(max_per_img=5)))
steps = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=({WIDTH}, {HEIGHT}), keep_ratio=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train = dict(ann_file='train.json', data_prefix=dict(img='images/train'))
test = dict(ann_file='test.json', data_prefix=dict(img='images/test'))
val_evaluator = dict(ann_file=root + '/test.json')
""",
    'ade': f"""
_base_ = {SEG!r}
model = dict(
    data_preprocessor=dict(size=({HEIGHT}, {WIDTH})),
    backbone={_BACKBONE},
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16, num_classes=3))
steps = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
kind = dict(_delete_=True, type='BaseSegDataset', reduce_zero_label=True)
train = dict(data_prefix=dict(img_path='images/train', seg_map_path='maps/train'), **kind)
test = dict(data_prefix=dict(img_path='images/test', seg_map_path='maps/test'), **kind)
val_evaluator = dict()
""",
}
_RUN = f"""
common = dict(metainfo=dict(classes={NAMES}), data_root=root, pipeline=steps)
loading = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=2, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=False),
    dataset=dict(**train, **common), **loading)
val_dataloader = dict(batch_size=1, dataset=dict(test_mode=True, **test, **common), **loading)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1, val_interval=5)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(
    interval=-1, by_epoch=True, save_last=False, save_best=None))
work_dir = root + '/work'
"""


def write_config(root: Path, kind: str, text: str = '') -> Path:
    """Write the config of a tiny model for the data set in `root`, with more lines of text."""
    # mmengine names a run by its config and the second. A name that exists already brings back
    # no scope, so that the last one, of any run, remains.
    path = root / f'{root.name}.py'
    path.write_text(f'root = {str(root)!r}{_CONFIGS[kind]}{_RUN}{text}')
    return path
