"""COCO files: what mmdet would drop or mix up without a word."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from mmca.checks import memory
from mmca.errors import InputError, warn

SHOWN = 8  # names in a message


@dataclass(frozen=True)
class CocoUse:
    """What a run does with a COCO file.

    Attributes:
        masks: whether masks are read.
        polygons: whether masks must be polygons (`poly2mask=False`).
        evaluated: whether predictions are compared with the file.
    """

    masks: bool
    polygons: bool
    evaluated: bool


@dataclass(frozen=True)
class Fault:
    """Something wrong with annotations: what, the remedy, and whether training must not start."""

    what: str
    remedy: str
    fatal: bool = True


DROPPED = 'they are dropped'
UNKNOWN_IMAGE = Fault('reference an unknown image_id', DROPPED, False)
UNKNOWN_CATEGORY = Fault('reference an unknown category_id', DROPPED, False)
EMPTY = Fault('have a box smaller than 1 pixel or no area', DROPPED, False)
OUTSIDE = Fault('have a box outside the image', DROPPED, False)
LEAVES = Fault('have a box that leaves the image', 'bbox is [x, y, width, height]', False)
NO_POLYGON = Fault('have no polygon of three or more points', 'they are ignored like crowds', False)
RLE_IGNORED = Fault('have RLE masks', 'with poly2mask=False they are ignored like crowds', False)
ID_ZERO = Fault('have the id 0', 'pycocotools counts it as unmatched; number from 1', False)
NO_NUMBER = Fault('have a bbox or polygon with NaN or infinity', 'correct or remove it')
NO_CROWD = Fault('have no iscrowd, needed for evaluation', 'write 0, or 1 for groups')
NO_MASK = Fault(
    'have no segmentation, but the config trains masks',
    'add masks, or train boxes alone: mmca config --data DIR --model fasterrcnn',
)
BAD_MASK = Fault('have a segmentation of unknown form', 'write [[x, y, x, y, ...], ...] or RLE')
SHORT_POLYGON = Fault('have a polygon of fewer than three points', 'pycocotools fails; remove it')
BAD_RLE = Fault('have an RLE that does not fill the image', 'encode the mask again')


def check_coco_file(key: str, path: str, classes: Sequence[str], use: CocoUse) -> None:
    """Check a COCO file. An unchanged file is read once; its warnings are remembered.

    Args:
        key: the data set's place in the config, for messages.
        path: the file.
        classes: of the data set, in the order of its labels.
        use: what the run does with the file.

    Raises:
        InputError: training would go wrong silently.
    """
    known = memory.recall(path, classes, astuple(use))
    if known is None:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        try:
            known = examine(content, classes, use)
        except InputError as error:
            raise InputError(f'{key}: {path}: {error}') from error
        memory.remember(path, classes, astuple(use), known)
    for warning in known:
        warn(f'{key}: {path}: {warning}')


def examine(content: dict, classes: Sequence[str], use: CocoUse) -> list[str]:
    """Look through the content of a COCO file.

    Args:
        content: as mmdet has read it, so its structure is sound.
        classes: of the data set.
        use: what the run does with the file.

    Returns:
        Warnings: what is dropped, with counts.

    Raises:
        InputError: training would go wrong silently.

    Example:
        >>> file = {'images': [{'id': 1, 'width': 9, 'height': 9}],
        ...         'categories': [{'id': 1, 'name': 'cat'}],
        ...         'annotations': [{'id': 1, 'image_id': 7, 'category_id': 1}]}
        >>> examine(file, ['cat'], CocoUse(masks=False, polygons=False, evaluated=False))
        ['1 of 1 annotations reference an unknown image_id (the first is number 0, id 1): they are dropped']
    """  # noqa: E501
    warnings = _check_categories(content['categories'], list(classes))
    images = {image['id']: image for image in content['images']}
    annotations = content.get('annotations') or []
    _check_unique('images', [image['id'] for image in content['images']])
    _check_unique('annotations', [annotation.get('id') for annotation in annotations])
    if use.evaluated and not annotations:
        warnings.append('no annotations, so there is nothing to compare predictions with')
    used = {c['id'] for c in content['categories'] if c['name'] in classes}
    known = {c['id'] for c in content['categories']}
    found: Counter[Fault] = Counter()
    first: dict[Fault, int] = {}
    for index, annotation in enumerate(annotations):
        fault = _fault(annotation, images, known, used, use)
        if fault is not None:
            found[fault] += 1
            first.setdefault(fault, index)
    for fault, count in found.items():
        index = first[fault]
        text = (
            f'{count} of {len(annotations)} annotations {fault.what} (the first is number {index}, '
            f'id {annotations[index].get("id")}): {fault.remedy}'
        )
        if fault.fatal:
            raise InputError(text)
        warnings.append(text)
    return warnings


def _check_categories(categories: list[dict], classes: list[str]) -> list[str]:
    """Mmdet numbers labels in the file's order of categories, whatever the config's order is."""
    names = [category['name'] for category in categories]
    absent = [name for name in classes if name not in names]
    if absent:
        raise InputError(
            f'{len(absent)} of {len(classes)} class names in metainfo.classes are not among its '
            f'{len(names)} categories: {_some(absent)}; its categories are {_some(names)}'
        )
    in_file = [name for name in names if name in classes]
    if len(set(in_file)) < len(in_file):
        raise InputError('two categories share a name; each needs its own')
    if in_file != classes:
        raise InputError(
            'its categories are in another order than metainfo.classes, and mmdet counts labels in '
            f"the file's order: set classes={tuple(in_file)}"
        )
    extra = [name for name in names if name not in classes]
    return [f'{len(extra)} categories are not used: {_some(extra)}'] if extra else []


def _check_unique(noun: str, ids: list) -> None:
    if len(set(ids)) < len(ids):
        value, count = Counter(ids).most_common(1)[0]
        raise InputError(f'{count} {noun} share the id {value!r}; each needs its own')


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:SHOWN]) + (', ...' if len(names) > SHOWN else '')


def _fault(annotation: dict, images: dict, known: set, used: set, use: CocoUse) -> Fault | None:
    image = images.get(annotation.get('image_id'))
    if image is None:
        return UNKNOWN_IMAGE
    category = annotation.get('category_id')
    if category not in known:
        return UNKNOWN_CATEGORY
    if use.evaluated and 'iscrowd' not in annotation:
        return NO_CROWD
    if annotation.get('ignore') or category not in used:
        return None
    x, y, width, height = annotation['bbox']
    if not math.isfinite(x + y + width + height):
        return NO_NUMBER
    if width < 1 or height < 1 or annotation['area'] <= 0:
        return EMPTY
    right, bottom = x + width - image['width'], y + height - image['height']
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return OUTSIDE
    fault = _fault_of_mask(annotation, image, use) if use.masks else None
    if fault is None and use.evaluated and annotation.get('id') == 0:
        return ID_ZERO
    return fault or (LEAVES if max(right, bottom, -x, -y) > 1 else None)


def _fault_of_mask(annotation: dict, image: dict, use: CocoUse) -> Fault | None:
    mask = annotation.get('segmentation')
    if not mask:
        return NO_MASK
    if isinstance(mask, dict):
        if use.polygons and not annotation.get('iscrowd'):
            return RLE_IGNORED
        return None if _fills(mask, image) else BAD_RLE
    if not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
        return BAD_MASK
    try:
        if not all(math.isfinite(sum(polygon)) for polygon in mask):
            return NO_NUMBER
    except TypeError:
        return BAD_MASK
    if use.evaluated and min(map(len, mask)) < 6:
        return SHORT_POLYGON
    if not any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask):
        return NO_POLYGON
    return None


def _fills(rle: dict, image: dict) -> bool:
    """Whether the runs of an RLE add up to its image; pycocotools decodes others to garbage."""
    try:
        height, width = rle['size']
        total = rle_pixels(rle['counts'])
    except (KeyError, TypeError, ValueError):
        return False
    return (height, width) == (image['height'], image['width']) and total == height * width


def rle_pixels(counts: str | list[int]) -> int:
    """Add up the runs of a mask in COCO's run-length encoding.

    Args:
        counts: the runs' lengths, or their compressed form: characters from '0' on hold groups of
            5 bits, the lowest first, and a sixth bit that continues the number; numbers are signed,
            and from the fourth on differences from the last but one.

    Returns:
        The number of pixels.

    Raises:
        ValueError: not an encoding, or a negative run.

    Example:
        >>> rle_pixels([6, 1, 2]), rle_pixels('612')
        (9, 9)
    """
    runs: list[int] = counts if isinstance(counts, list) else []
    value = shift = 0
    for code in b'' if isinstance(counts, list) else counts.encode('ascii'):
        group = code - 48
        if not 0 <= group < 64:
            raise ValueError('not an encoding')
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or any(run < 0 for run in runs):
        raise ValueError('not an encoding')
    return sum(runs)
