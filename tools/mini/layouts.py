"""The synthetic data set as files: the same images in COCO instance and in ADE20K layout.

    OUT/coco/{train,val}/000000.jpg            OUT/ade/images/{training,validation}/000000.jpg
    OUT/coco/annotations/{train,val}.json      OUT/ade/annotations/{training,validation}/000000.png
    OUT/imagenet/{train,val}/CLASS/000000.png

COCO category ids and ADE20K labels agree: things are 1..5, stuff is 6..8. Label 0 (ignored with
`reduce_zero_label=True`) is the strip between two kinds of stuff where neither prevails.

The images in ImageNet layout differ: square, half as high, with one thing each, as large in pixels
as in the other two layouts; half of the things are partly hidden behind stuff.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_api

from mmca.errors import InputError

from .drawing import THINGS, draw_image, draw_portrait

VERSION = 1  # increment when images or files change
LAYOUTS = ('coco', 'ade', 'imagenet')
PORTRAITS = 4  # ImageNet images per image of the other layouts; they are a fifth as large


def write_portraits(out: Path, split: int, count: int, side: int, seed: int) -> str:
    """Draw and write one split, 0 (train) or 1 (val), in ImageNet layout; describe it.

    Classes alternate; file names are unique within a split.
    """
    folder = out / 'imagenet' / ('train', 'val')[split]
    for name in THINGS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        name = THINGS[index % len(THINGS)]
        # Random streams 0 and 1 belong to the other layouts.
        portrait = draw_portrait((seed, 2 + split, index), name, side)
        png = cv2.imencode('.png', portrait)[1]
        (folder / name / f'{index:06d}.png').write_bytes(png)
    return f'{count} portraits'


def write_split(out: Path, split: int, count: int, size: tuple, seed: int) -> str:
    """Draw and write one split, 0 (train) or 1 (val), in both layouts; describe it."""
    name, ade_name = (('train', 'training'), ('val', 'validation'))[split]
    coco = out / 'coco' / name
    photos, maps = (out / 'ade' / kind / ade_name for kind in ('images', 'annotations'))
    index_file = out / f'coco/annotations/{name}.json'
    for folder in (coco, photos, maps, index_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        jpeg, labels, things = draw_image((seed, split, index), size)
        for folder in (coco, photos):
            (folder / f'{index:06d}.jpg').write_bytes(jpeg)
        (maps / f'{index:06d}.png').write_bytes(cv2.imencode('.png', labels)[1])
        w, h = size
        images.append(dict(id=index, file_name=f'{index:06d}.jpg', width=w, height=h, license=1))
        for label, mask in things:
            rle = mask_api.encode(np.asfortranarray(mask, np.uint8))
            box, area = mask_api.toBbox(rle).tolist(), int(mask_api.area(rle))
            rle['counts'] = rle['counts'].decode()
            about = dict(id=len(annotations) + 1, image_id=index, category_id=label, iscrowd=0)
            annotations.append(about | dict(bbox=box, area=area, segmentation=rle))
    dataset = dict(
        info=dict(description='mmca mini', version=str(VERSION)),
        licenses=[dict(id=1, name='synthetic, written by mmca make-mini', url='')],
        categories=[dict(id=i, name=n, supercategory='thing') for i, n in enumerate(THINGS, 1)],
        images=images,
        annotations=annotations,
    )
    index_file.write_text(json.dumps(dataset))
    found = Counter(annotation['category_id'] for annotation in annotations)
    counts = ', '.join(f'{n} {found[i]}' for i, n in enumerate(THINGS, 1))
    return f'{name} {count} images ({counts})'


def make_mini(
    out: str | Path,
    train: int = 720,
    val: int = 48,
    size: tuple = (160, 128),
    seed: int = 0,
    force: bool = False,
) -> str:
    """Write the data set, unless the folder already holds it; return a line that describes it.

    Args:
        out: output folder.
        train: number of training images; PORTRAITS times as many in ImageNet layout.
        val: number of validation images, likewise.
        size: width and height in pixels, multiples of 32.
        seed: random seed.
        force: replace another synthetic data set.

    Raises:
        InputError: a bad size, or a folder with other content.
    """
    if len(size) != 2 or any(side % 32 or not 64 <= side <= 4096 for side in size):
        got = ' x '.join(map(str, size))
        raise InputError(f'size must be W and H, multiples of 32 from 64 to 4096, got {got}')
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f'{out} is not a folder: choose another --out')
    stamp, aside = out / 'mini.json', out / '.unfinished'
    content = json.dumps(
        dict(version=VERSION, layouts=LAYOUTS, train=train, val=val, size=tuple(size), seed=seed)
    )
    if not force and stamp.is_file() and stamp.read_text() == content:
        return f'{out} already holds this data set: nothing to do'
    if out.is_dir() and any(path != aside for path in out.iterdir()):
        if not stamp.is_file():  # it could be the real COCO
            raise InputError(f'{out} is not empty: choose another --out')
        if not force:
            raise InputError(f'{out} contains another synthetic data set: --force replaces it')

    # Moved into place at the end, so that an interrupted run never looks complete.
    shutil.rmtree(aside, ignore_errors=True)
    parts = []
    for split, count in enumerate((train, val)):
        images = write_split(aside, split, count, size, seed)
        portraits = write_portraits(aside, split, PORTRAITS * count, min(size) // 2, seed)
        parts.append(f'{images}, {portraits}')
    stamp.unlink(missing_ok=True)
    for layout in LAYOUTS:
        shutil.rmtree(out / layout, ignore_errors=True)
        (aside / layout).rename(out / layout)
    aside.rmdir()
    stamp.write_text(content)
    return f'mini data set in {out}: ' + '; '.join(parts)
