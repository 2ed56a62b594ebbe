"""What can be wrong with data and configs, and what is merely unusual."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pycocotools.mask
from PIL import Image

from tests.stress.good_data import HEIGHT, VICTIM, WIDTH, Files, photo

Change = Callable[[Files], object]


# --- COCO files


def edit(change: Callable[[dict], object]) -> Change:
    """A change of the content of a COCO file."""

    def rewrite(files: Files) -> None:
        content = json.loads(files.json.read_text())
        change(content)
        files.json.write_text(json.dumps(content))

    return rewrite


def one(key: str, **values: object) -> Change:
    """Set values of one image, annotation or category; ... removes the key."""

    def change(content: dict) -> None:
        entry = {**content[key][VICTIM], **values}
        content[key][VICTIM] = {k: value for k, value in entry.items() if value is not ...}

    return edit(change)


def rle(**values: object) -> Change:
    """Give one annotation a mask in RLE, with some values of it changed; ... removes the key."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[6:36, 4:28] = 1
    coded = pycocotools.mask.encode(mask)
    coded = {**coded, 'counts': coded['counts'].decode(), **values}
    coded = {name: value for name, value in coded.items() if value is not ...}
    return one('annotations', segmentation=coded)


def annotation(**values: object) -> Change:
    return one('annotations', **values)


NAN = float('nan')
SQUARE = [4, 6, 28, 6, 28, 36, 4, 36]
COCO_ERRORS = {  # besides those of tests/checks/test_coco.py
    'truncated JSON': lambda f: f.json.write_text(f.json.read_text()[:500]),
    'not UTF-8': lambda files: files.json.write_bytes(b'{"\xff\xfe": 1}'),
    'no list of images': edit(lambda c: c.pop('images')),
    'annotations in an object': edit(lambda c: c.update(annotations={'1': {}})),
    'no images': edit(lambda c: c.update(images=[])),
    'all categories unknown': edit(lambda c: c.update(categories=[{'id': 1, 'name': 'x'}])),
    'empty segmentation': annotation(segmentation=[]),
    'RLE of unknown letters': rle(counts='~~~~'),
    'RLE without counts': rle(counts=...),
    'annotation without an image': annotation(image_id=...),
    'image id is a list': one('images', id=[1]),
    'no box': annotation(bbox=...),
    'image without width': one('images', width=...),
    'width is text': one('images', width='64'),
    'size of another image': one('images', width=WIDTH * 2),
    'image without a name': one('images', file_name=...),
    'name is empty': one('images', file_name=''),
    'image absent': lambda files: files.image.unlink(),
}
COCO_FINE = {
    'as it is': lambda files: None,
    'no area': annotation(area=...),
    'no iscrowd': annotation(iscrowd=None),
    'backslash in a name': one('images', file_name='.\\2.jpg'),
    'root category of a name': edit(
        lambda c: c['categories'].insert(0, {'id': 0, 'name': 'fig', 'supercategory': 'none'})
    ),
    'byte order mark': lambda f: f.json.write_bytes(b'\xef\xbb\xbf' + f.json.read_bytes()),
    'crowd in RLE': lambda files: (rle()(files), annotation(iscrowd=1)(files)),
    'RLE of numbers': rle(counts=[0, HEIGHT * WIDTH]),
    'a short polygon beside another': annotation(segmentation=[SQUARE, [1, 2]]),
    'annotation id twice': annotation(id=100),
    'annotation id is text': annotation(id='a'),
    'flagged to be ignored': annotation(ignore=1, bbox=[0, 0, 0, 0]),
    'area NaN': annotation(area=NAN),
    'two images of one name': one('images', file_name='0.jpg'),
    'one image listed twice': edit(lambda c: c['images'].append(c['images'][0])),
}

# --- Images and label maps


def saved(make: Callable[[Image.Image], Image.Image], kind: str = 'PNG', **options) -> Change:
    """Rewrite the image, in the format `kind` under its own name."""

    def change(files: Files) -> None:
        image = Image.open(files.image)
        image.load()
        make(image).save(files.image, kind, **options)

    return change


def cut(change: Callable[[bytes], bytes], attribute: str = 'image') -> Change:
    def rewrite(files: Files) -> None:
        path = getattr(files, attribute)
        path.write_bytes(change(path.read_bytes()))

    return rewrite


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def labels(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def rewrite(files: Files) -> None:
        Image.fromarray(change(np.asarray(Image.open(files.map)).copy())).save(files.map)

    return rewrite


def _truncated_png(files: Files) -> None:
    saved(lambda image: image)(files)
    cut(lambda data: data[: len(data) // 2])(files)


same = partial(saved, lambda image: image)
turned = same('JPEG', exif=exif(6))
IMAGE_ERRORS = {
    'truncated JPEG': cut(lambda data: data[: len(data) // 2]),
    'JPEG without its last bytes': cut(lambda data: data[:-20]),
    'truncated PNG': _truncated_png,
    'empty image': cut(lambda data: b''),
    'HTML instead of an image': cut(lambda data: b'<html>404 not found</html>'),
    'Git LFS pointer': cut(lambda data: b'version https://git-lfs'),
    'EXIF turns it, annotations as stored': turned,
}
IMAGE_FINE = {
    'CMYK': saved(lambda image: image.convert('CMYK'), 'JPEG'),
    'palette': saved(lambda image: image.convert('P'), 'GIF'),
    'animated': same('GIF', save_all=True, append_images=[photo(np.random.default_rng(1))]),
    'gray': saved(lambda image: image.convert('L'), 'JPEG'),
    'one bit': saved(lambda image: image.convert('1')),
    'alpha': saved(lambda image: image.convert('RGBA')),
    'EXIF upright': same('JPEG', exif=exif(1)),
    'EXIF, annotations after it': saved(
        lambda image: image.transpose(Image.Transpose.ROTATE_90), 'JPEG', exif=exif(6)
    ),
}
MAP_ERRORS = {
    'label beyond the classes': labels(lambda a: np.where(a == 1, 9, a).astype(np.uint8)),
    'map of another size': labels(lambda a: a[:-4, :-4]),
    'color map': labels(lambda a: np.stack([a] * 3, -1)),
    'map with alpha': labels(lambda a: np.stack([a] * 2, -1)),
    '16-bit map': labels(lambda a: a.astype(np.uint16) + 256),
    'truncated map': cut(lambda data: data[: len(data) // 2], 'map'),
    'empty map': cut(lambda data: b'', 'map'),
    'HTML instead of a map': cut(lambda data: b'<html>', 'map'),
    'map absent': lambda files: files.map.unlink(),
}
MAP_FINE = {
    'ignored labels': labels(lambda a: np.where(a == 1, 255, a).astype(np.uint8)),
    'all zero': labels(np.zeros_like),
    'in 16 bits': labels(lambda a: a.astype(np.uint16)),
}
ERRORS = {'coco': COCO_ERRORS | IMAGE_ERRORS, 'ade': MAP_ERRORS | IMAGE_ERRORS}
FINE = {'coco': COCO_FINE | IMAGE_FINE, 'ade': MAP_FINE | IMAGE_FINE}

# --- Configs of the detector: all are refused

CONFIGS = [
    "model = dict(backbone=dict(type='mmca.CAPVTT'))",
    "model = dict(backbone=dict(attn='CCCX'))",
    "model = dict(backbone=dict(drop_path_rate='0.1'))",
    'model = dict(neck=dict(_delete_=True, out_channels=16, num_outs=5))',
    'model = dict(roi_head=dict(bbox_head=dict(num_classes=4)))',
    "model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='x.pth')))",
    'model = None',
    "train_dataloader = dict(dataset=dict(type='CocoDatset'))",
    "train_dataloader = dict(dataset=dict(ann_file='nowhere.json'))",
    "train_dataloader = dict(dataset=dict(metainfo=dict(classes='date')))",
    "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('date', 'hazelnut', 'fig'))))",
    "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('date', 'fig', 'nut'))))",
    "train_dataloader = dict(batch_size='2')",
    'train_dataloader = dict(batch_size=0)',
    'train_dataloader = dict(_delete_=True, batch_size=1)',
    "custom_hooks = [dict(type='mmca.FiniteLossHook', patients=3)]",
    "optim_wrapper = dict(optimizer=dict(lr='1e-3'))",
    'optim_wrapper = dict(paramwise_cfg=7)',
    'optim_wrapper = None',
    "param_scheduler = [dict(type='LinerLR', start_factor=0.1)]",
    "val_evaluator = dict(type='CocoMetrics')",
    "train_cfg = dict(type='EpochBasedTrainLop')",
    "train_cfg = dict(max_epochs='1')",
    "default_scope = 'mmdett'",
    "load_from = 'nowhere.pth'",
    'model = dict(backbone=dict(',
    'model = dict(backbone=dict(depth=depht))',
    "custom_imports = dict(imports=['mmca', 'not_there'], allow_failed_imports=False)",
]
