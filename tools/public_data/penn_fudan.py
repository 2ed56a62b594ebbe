"""Penn-Fudan pedestrians as COCO instances, one class.

Wang, Shi, Song, Shen, "Object detection combining recognition and segmentation", ACCV 2007. The
data set has no official split; this one is ours.
"""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from mmca.errors import InputError

from .images import listed, read, with_progress, write_jpeg

NUMBER = 170
# One letter per image, in numerical order.
SPLITS = {'t': 'train', 'v': 'val', '.': 'test'}
SPLIT_OF = {
    'FudanPed': '.tt.ttttvt.vtvt.tt.tttt...ttvtvtttt.t.vtvvtttttttttt.tt.tvttttvt.v.ttvvt.t',
    'PennPed': (
        'ttt.t..ttt.vtttt..tvtttt.ttt..vtt.ttt.t.ttvvtt.t'
        '.t.tvvt..vt.vt.ttttvv.tttv..vttvtv.tttt.ttvt.vtt'
    ),
}


def split_of(stem: str) -> str:
    """Return 'train', 'val' or 'test' for an image name without suffix.

    Raises:
        InputError: the data set has no such image.
    """
    for place, letters in SPLIT_OF.items():
        number = stem.removeprefix(place)
        if number.isdecimal() and 1 <= int(number) <= len(letters):
            return SPLITS[letters[int(number) - 1]]
    raise InputError(f'Penn-Fudan has no image {stem}')


def convert(source: Path, out: Path) -> dict[str, int]:
    """Write {train,val,test}.json and folders of images; return the number of images per split.

    Raises:
        InputError: a file is missing, damaged or unexpected.
    """
    images = listed(source / 'PNGImages', NUMBER)
    content = {
        split: {
            'images': [],
            'annotations': [],
            'categories': [{'id': 1, 'name': 'pedestrian'}],
        }
        for split in SPLITS.values()
    }
    for path in with_progress(images, 'images'):
        split = split_of(path.stem)
        part = content[split]
        mask_file = source / 'PedMasks' / f'{path.stem}_mask.png'
        masks, pixels = read(mask_file), read(path)
        if masks.shape != pixels.shape[:2]:
            raise InputError(
                f'{mask_file}: expected one channel of {pixels.shape[:2]}, got {masks.shape}'
            )
        height, width = masks.shape
        image_id = len(part['images']) + 1
        name = f'{path.stem}.jpg'
        part['images'].append({'id': image_id, 'file_name': name, 'width': width, 'height': height})
        for value in np.unique(masks[masks > 0]):
            part['annotations'].append(
                {
                    'id': len(part['annotations']) + 1,
                    'image_id': image_id,
                    'category_id': 1,
                    'iscrowd': 0,
                    **_instance(masks == value),
                }
            )
        write_jpeg(pixels, out / split / name)
    for split, part in content.items():
        (out / f'{split}.json').write_text(json.dumps(part))
    return {split: len(part['images']) for split, part in content.items()}


def _instance(mask: np.ndarray) -> dict:
    """COCO's `bbox`, `area` and `segmentation` of a (H, W) mask."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        'bbox': coco_mask.toBbox(rle).tolist(),
        'area': float(coco_mask.area(rle)),
        'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
    }
