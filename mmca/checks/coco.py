"""Find annotations in COCO files that mmdet would silently drop or mix up."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import mmca
from mmca.errors import InputError, warn
from mmca.io import atomic_write, read_coco

SHOWN = 8  # names in a message


class CocoUse(NamedTuple):
    """What a run does with a COCO file."""

    masks: bool = False  # whether masks are read
    polygons: bool = False  # whether masks must be polygons (`poly2mask=False`)
    boxes_evaluated: bool = False  # whether pycocotools evaluates boxes or masks
    masks_evaluated: bool = False
    labels: tuple = ()  # the category id of each label
    trained: bool = False  # whether a model is trained on it


class Fault(NamedTuple):
    """Something wrong with annotations: what, the remedy, and whether training must not start."""

    what: str
    remedy: str
    fatal: bool = True
    field: str = ''  # of the annotation, whose value a message shows


DROPPED = 'they are dropped'
UNKNOWN_IMAGE = Fault('reference an unknown image_id', DROPPED, False, 'image_id')
UNKNOWN_CATEGORY = Fault('reference an unknown category_id', DROPPED, False, 'category_id')
EMPTY = Fault('have a box smaller than 1 pixel or no area', DROPPED, False)
OUTSIDE = Fault('have a box outside the image', DROPPED, False)
LEAVES = Fault('have a box that leaves the image', 'bbox is [x, y, width, height]', False)
NO_POLYGON = Fault('have no polygon of three or more points', 'they are ignored like crowds', False)
RLE_IGNORED = Fault('have RLE masks', 'with poly2mask=False they are ignored like crowds', False)
NO_NUMBER = Fault('have a bbox or polygon with NaN or infinity', 'correct or remove it')
NO_MASK = Fault(
    'have no segmentation, but the config trains masks',
    'add them, or train only boxes: mmca config --data writes such a config',
)
BAD_MASK = Fault('have a segmentation of unknown form', 'write [[x, y, x, y, ...], ...] or RLE')
SHORT_POLYGON = Fault('begin with a polygon of one or two points', 'pycocotools fails; remove it')
BAD_RLE = Fault('have an RLE that does not fill the image', 'encode the mask again')
TRAINED = (None, LEAVES)


def check_coco_file(key: str, path: str, classes: Sequence[str], use: CocoUse) -> None:
    """Examine a COCO file and print its warnings. An unchanged file is read once.

    Raises:
        InputError: training would go wrong silently.
    """
    cache = _cache_file(path, classes, use)
    try:
        warnings = json.loads(cache.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        content = read_coco(path)
        try:
            warnings = examine(content, classes, use)
        except InputError as error:
            raise InputError(f'{key}: {path}: {error}') from error
        with suppress(OSError):  # without a cache folder the file is read again next time
            cache.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(cache, 'w') as file:
                json.dump(warnings, file)
    for warning in warnings:
        warn(f'{key}: {path}: {warning}')


def _cache_file(path: str, *context: Sequence) -> Path:
    """Where the warnings about a file are cached until it changes."""
    stat = os.stat(path)
    facts = (mmca.__version__, os.path.realpath(path), stat.st_size, stat.st_mtime_ns, context)
    folder = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(folder, 'mmca', f'{hashlib.sha256(repr(facts).encode()).hexdigest()}.json')


def examine(content: dict, classes: Sequence[str], use: CocoUse) -> list[str]:
    """Find annotations in a COCO file that mmdet would silently drop or mix up.

    Args:
        content: as mmdet has read it, so its structure is sound.
        classes: of the data set, in the order of its labels.
        use: what the run does with the file.

    Returns:
        Warnings: what is dropped, with counts.

    Raises:
        InputError: training would go wrong silently.

    Example:
        >>> file = {'images': [{'id': 1, 'width': 9, 'height': 9}],
        ...         'categories': [{'id': 1, 'name': 'cat'}],
        ...         'annotations': [{'id': 1, 'image_id': 7, 'category_id': 1}]}
        >>> examine(file, ['cat'], CocoUse())
        ['1 of 1 annotations reference an unknown image_id (the first is number 0, id 1, image_id 7): they are dropped']
    """  # noqa: E501
    warnings = _check_categories(content['categories'], list(classes), use)
    images = {image['id']: image for image in content['images']}
    annotations = content.get('annotations') or []
    if len(images) < len(content['images']):  # the same entry twice does no harm
        pairs = {(image['id'], image['file_name']) for image in content['images']}
        _check_unique('images', [key for key, _ in pairs], 'image_id')
    if use.boxes_evaluated and not annotations:
        warnings.append('no annotations to compare predictions with')
    used = {c['id'] for c in content['categories'] if not classes or c['name'] in classes}
    known = {c['id'] for c in content['categories']}
    found: Counter[Fault] = Counter()
    first: dict[Fault, int] = {}
    objects = crowds = 0
    for index, annotation in enumerate(annotations):
        fault = _fault(annotation, images, known, used, use)
        crowds += bool(annotation.get('iscrowd'))
        ignored = annotation.get('iscrowd') or annotation.get('ignore')
        objects += fault in TRAINED and not ignored and annotation['category_id'] in used
        if fault is not None:
            found[fault] += 1
            first.setdefault(fault, index)
    for fault, count in found.items():
        index = first[fault]
        shown = ('id', fault.field) if fault.field else ('id',)
        about = ', '.join(f'{name} {annotations[index].get(name)!r}' for name in shown)
        text = (
            f'{count} of {len(annotations)} annotations {fault.what} (the first is number {index}, '
            f'{about}): {fault.remedy}'
        )
        if fault.fatal:
            raise InputError(text)
        warnings.append(text)
    if use.trained and 2 * crowds > len(annotations):
        warnings.append(
            f'{crowds} of {len(annotations)} annotations are crowds (iscrowd=1), which training '
            'ignores; set iscrowd=0 for single objects'
        )
    if use.trained and annotations and not objects:
        raise InputError(f'no object is left to train on; {"; ".join(warnings)}')
    return warnings


def _check_categories(categories: list[dict], classes: list[str], use: CocoUse) -> list[str]:
    _check_unique('categories', [category['id'] for category in categories], 'category_id')
    if not classes:
        return []
    ids = {category['name']: category['id'] for category in categories}
    names = [category['name'] for category in categories]
    absent = [name for name in classes if name not in ids]
    extra = [name for name in names if name not in classes]
    if absent and (extra or not use.boxes_evaluated):  # misspelled, most likely
        raise InputError(
            f'{len(absent)} of {len(classes)} class names in metainfo.classes are not among its '
            f'{len(names)} categories: {_some(absent)}; its categories are {_some(names)}'
        )
    if len(names) - len(extra) > len(classes) - len(absent):
        raise InputError('two categories have the same name; give each a unique name')
    if use.labels and use.labels != tuple(map(ids.get, classes)):
        raise InputError(
            'its categories and metainfo.classes are in different orders; mmca.Runner with '
            "type='CocoDataset' orders labels by metainfo.classes"
        )
    warnings = [f'no category {name}' for name in absent]
    return warnings + [f'unused categories: {_some(extra)}'] * bool(extra)


def _check_unique(noun: str, ids: list, reference: str) -> None:
    for value, count in Counter(ids).most_common(1):
        if count > 1:
            raise InputError(
                f'{count} {noun} share the id {value!r}: number them 1, 2, 3, ..., and set '
                f'{reference} of each annotation to match'
            )


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:SHOWN]) + (', ...' if len(names) > SHOWN else '')


def _fault(annotation: dict, images: dict, known: set, used: set, use: CocoUse) -> Fault | None:
    image = images.get(annotation.get('image_id'))
    if image is None:
        return UNKNOWN_IMAGE
    category = annotation.get('category_id')
    if category not in known:
        return UNKNOWN_CATEGORY
    if category not in used or annotation.get('ignore'):
        return None
    x, y, width, height = annotation['bbox']
    if not math.isfinite(x + y + width + height):
        return NO_NUMBER
    if width < 1 or height < 1:
        return EMPTY
    right, bottom = x + width, y + height
    if x >= image['width'] or y >= image['height'] or right <= 0 or bottom <= 0:
        return OUTSIDE
    if annotation['area'] <= 0:
        return EMPTY
    fault = _fault_of_mask(annotation, image, use) if use.masks else None
    beyond = max(-x, -y, right - image['width'], bottom - image['height'])
    return fault or (LEAVES if beyond > 1 else None)


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
    if len(mask) > 2 and all(len(polygon) == 2 for polygon in mask):  # points of one polygon
        return BAD_MASK
    try:
        if not all(math.isfinite(sum(polygon)) for polygon in mask):
            return NO_NUMBER
    except TypeError:
        return BAD_MASK
    if use.masks_evaluated and len(mask[0]) < 5:  # pycocotools looks only at the first
        return SHORT_POLYGON
    if not any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask):
        return NO_POLYGON
    return None


def _fills(rle: dict, image: dict) -> bool:
    """Whether the runs of an RLE fill its image; pycocotools decodes others to garbage."""
    size = [image['height'], image['width']]
    try:
        return rle['size'] == size and rle_pixels(rle['counts']) == math.prod(size)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def rle_pixels(counts: str | list[int]) -> int:
    """Count the pixels of a mask in COCO's run-length encoding.

    Args:
        counts: the runs' lengths, or their compressed form: characters from '0' on hold groups of
            5 bits, the lowest first, and a sixth bit that continues the number; numbers are signed,
            and from the fourth on differences from the last but one.

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
