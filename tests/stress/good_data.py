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
    """Write a data set without faults.

    Args:
        root: a new folder.
        kind: 'coco' or 'ade'.
        number: of images a split.

    Returns:
        The splits, 'train' and 'test'.
    """
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
    places = [(index, *place) for index in range(number) for place in ((4, 1), (34, 2))]
    return {
        'images': [
            {'id': i, 'file_name': f'{i}.jpg', 'width': WIDTH, 'height': HEIGHT}
            for i in range(number)
        ],
        'annotations': [
            {
                'id': 100 + i,
                'image_id': index,
                'category_id': category,
                'bbox': [x, 6, 24, 30],
                'area': 720,
                'iscrowd': 0,
                'segmentation': [[x, 6, x + 24, 6, x + 24, 36, x, 36]],
            }
            for i, (index, x, category) in enumerate(places)
        ],
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(NAMES)],
    }


_LOADER = """
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=False),
    dataset=dict({dataset}, data_root={root!r}, {train}, pipeline=[{load}, {pack}]))
val_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict({dataset}, data_root={root!r}, {test}, test_mode=True, pipeline=[{load}, {pack}]))
test_dataloader = val_dataloader
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1, val_interval=5)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(
    interval=-1, by_epoch=True, save_last=False, save_best=None))
work_dir = {root!r} + '/work'
"""
_ARCH = 'arch=dict(embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))'
_MODEL = {
    'coco': f"""
_base_ = {DET!r}
model = dict(
    backbone=dict(_delete_=True, type='mmca.CAPVT', {_ARCH}),
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=3),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=3)),
    test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(max_per_img=5)))
train_dataloader = dict(batch_sampler=None)
val_evaluator = dict(ann_file={{root!r}} + '/test.json')
test_evaluator = val_evaluator
""",
    'ade': f"""
_base_ = {SEG!r}
model = dict(
    data_preprocessor=dict(size=({HEIGHT}, {WIDTH})),
    backbone=dict(_delete_=True, type='mmca.CAPVT', {_ARCH}),
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16, num_classes=3))
""",
}
_DATASET = {
    'coco': f"metainfo=dict(classes={NAMES}), data_prefix=dict(img='images/{{split}}'), "
    "ann_file='{split}.json'",
    'ade': f"_delete_=True, type='BaseSegDataset', metainfo=dict(classes={NAMES}), "
    "data_prefix=dict(img_path='images/{split}', seg_map_path='maps/{split}'), "
    'reduce_zero_label=True',
}
_LOAD = {
    'coco': "dict(type='LoadAnnotations', with_bbox=True, with_mask=True), "
    f"dict(type='Resize', scale=({WIDTH}, {HEIGHT}), keep_ratio=True)",
    'ade': "dict(type='LoadAnnotations')",
}
_KEYS = "meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')"
_PACK = {'coco': f"dict(type='PackDetInputs', {_KEYS})", 'ade': "dict(type='PackSegInputs')"}


def write_config(root: Path, kind: str, text: str = '') -> Path:
    """Write the config of a tiny model for a data set of :func:`write_good`.

    Args:
        root: where the data set lies.
        kind: 'coco' or 'ade'.
        text: more lines of the config.

    Returns:
        The config.
    """
    loader = _LOADER.format(
        root=str(root),
        dataset='',
        load=f"dict(type='LoadImageFromFile'), {_LOAD[kind]}",
        pack=_PACK[kind],
        **{split: _DATASET[kind].format(split=split) for split in ('train', 'test')},
    ).replace('dict(, ', 'dict(')
    path = root / 'tiny.py'
    path.write_text(_MODEL[kind].replace('{root!r}', repr(str(root))) + loader + text)
    return path
