"""Tiny data sets without faults, in the layouts of the three libraries, and configs for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers import CLS, DET, SEG

NAMES = ('date', 'fig', 'hazelnut')
WIDTH, HEIGHT = 64, 48
NUMBER = 6  # images a split
VICTIM = 2  # the image that most cases damage
KINDS = ('coco', 'ade', 'folders')


@dataclass(frozen=True)
class Files:
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


# --- Good data


def write_good(root: Path, kind: str, number: int = NUMBER) -> dict[str, Files]:
    """Write a data set without faults.

    Args:
        root: a new folder.
        kind: one of `KINDS`.
        number: of images a split.

    Returns:
        The splits, 'train' and 'test'.
    """
    rng = np.random.default_rng(0)
    splits = {}
    for split in ('train', 'test'):
        images = root / 'images' / split
        files = Files(images, root / f'{split}.json', root / 'maps' / split)
        for folder in (files.images, files.maps):
            folder.mkdir(parents=True)
        if kind == 'folders':
            for name in NAMES[1:]:
                (images / name).mkdir()
                photo(rng).save(images / name / '0.jpg')
            files = Files(images / NAMES[0], files.json, files.maps)
            files.images.mkdir()
        for index in range(number):
            photo(rng).save(files.images / f'{index}.jpg')
        if kind == 'coco':
            files.json.write_text(json.dumps(_coco(number)))
        if kind == 'ade':
            for index in range(number):
                labels = rng.integers(0, len(NAMES) + 1, (HEIGHT, WIDTH), dtype=np.uint8)
                Image.fromarray(labels).save(files.maps / f'{index}.png')
        splits[split] = files
    return splits


def photo(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def _coco(number: int) -> dict:
    annotations = []
    for index in range(number):
        for x, category in ((4, 1), (34, 2)):
            annotations.append(
                {
                    'id': 100 + len(annotations),
                    'image_id': index,
                    'category_id': category,
                    'bbox': [x, 6, 24, 30],
                    'area': 720,
                    'iscrowd': 0,
                    'segmentation': [[x, 6, x + 24, 6, x + 24, 36, x, 36]],
                }
            )
    return {
        'images': [
            {'id': i, 'file_name': f'{i}.jpg', 'width': WIDTH, 'height': HEIGHT}
            for i in range(number)
        ],
        'annotations': annotations,
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(NAMES)],
    }


# --- Configs

_LOADER = """
train_dataloader = dict(
    batch_size=2, num_workers={workers}, persistent_workers=False,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=False),
    dataset=dict({dataset}, data_root={root!r}, {train}, pipeline=[{load}, {pack}]))
val_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict({dataset}, data_root={root!r}, {test}, test_mode=True, pipeline=[{load}, {pack}]))
test_dataloader = {{**val_dataloader, 'num_workers': {workers}}}
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1, val_interval=5)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=-1, by_epoch=True))
"""
_ARCH = 'arch=dict(embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))'
_CONFIG = {
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
    'folders': f"""
_base_ = {CLS!r}
model = dict(
    backbone=dict(
        _delete_=True, type='mmca.CADeiT', arch=dict(embed_dims=16, depth=1, num_heads=1)),
    head=dict(in_channels=16, num_classes=3), data_preprocessor=dict(num_classes=3))
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
""",
}
_DATASET = {
    'coco': f"metainfo=dict(classes={NAMES}), data_prefix=dict(img='images/{{split}}'), "
    "ann_file='{split}.json'",
    'ade': f"_delete_=True, type='BaseSegDataset', metainfo=dict(classes={NAMES}), "
    "data_prefix=dict(img_path='images/{split}', seg_map_path='maps/{split}'), "
    'reduce_zero_label=True',
    'folders': "data_prefix='images/{split}'",
}
_LOAD = {
    'coco': "dict(type='LoadAnnotations', with_bbox=True, with_mask=True)",
    'ade': "dict(type='LoadAnnotations')",
    'folders': "dict(type='Resize', scale=(32, 32))",
}
_PACK = {'coco': 'PackDetInputs', 'ade': 'PackSegInputs', 'folders': 'PackInputs'}
_DET_KEYS = "meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')"


def write_config(root: Path, kind: str, workers: int = 0) -> Path:
    """Write the config of a tiny model for a data set of :func:`write_good`.

    Args:
        root: where the data set lies.
        kind: one of `KINDS`.
        workers: processes that read data.

    Returns:
        The config.
    """
    parts = {split: _DATASET[kind].format(split=split) for split in ('train', 'test')}
    pack = f"dict(type='{_PACK[kind]}')"
    load = f"dict(type='LoadImageFromFile'), {_LOAD[kind]}"
    if kind == 'coco':
        load += f", dict(type='Resize', scale=({WIDTH}, {HEIGHT}), keep_ratio=True)"
        pack = f"dict(type='PackDetInputs', {_DET_KEYS})"
    text = _CONFIG[kind].replace('{root!r}', repr(str(root)))
    loader = _LOADER.format(
        workers=workers, root=str(root), dataset='', load=load, pack=pack, **parts
    ).replace('dict(, ', 'dict(')
    path = root / 'tiny.py'
    path.write_text(text + loader)
    return path
