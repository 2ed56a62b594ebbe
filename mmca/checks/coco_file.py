"""What is wrong with the entries of a COCO file, found in one pass, before anything uses them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from mmca.errors import InputError
from mmca.checks.faults import Fault, Faults
from mmca.errors import warn

ID = (int, float, str)
LIMIT = 1e15  # of coordinates, sizes and areas

NO_OBJECT = Fault('are no objects', 'write {"id": ..., ...}')
NO_ID = Fault('have no id that is a number or text', 'number them')
NO_FILE_NAME = Fault('have no file_name', "write the image's path below the folder of images")
NO_SIZE = Fault('have no width and height above 0', 'write them, in pixels, as in the image file')
NO_NAME = Fault('have no name that is text', 'write one')
NO_IMAGE_ID = Fault('have no image_id', 'write the id of an image')
NO_CATEGORY_ID = Fault('have no category_id', 'write the id of a category')
NO_BBOX = Fault('have no bbox', 'write [x, y, width, height], in pixels')
BAD_BBOX = Fault('have a bbox that is not four finite numbers', 'write [x, y, width, height]')
NO_AREA = Fault('have no area that is a finite number', "write the mask's or box's, in pixels")
NO_CROWD = Fault('have no iscrowd, which evaluation reads', 'write 0, or 1 for a group of objects')
NO_MASK = Fault('have no segmentation', '')  # the remedy depends on the config
BAD_MASK = Fault('have a segmentation that is neither polygons nor RLE', 'write [[x, y, ...]]')
FLAT = Fault('have a polygon that is not inside a list', 'write [[x, y, x, y, ...]]')
MIXED = Fault('mix polygons and RLE in one segmentation', 'write all of it as polygons or as RLE')
BAD_POLYGON = Fault('have polygons whose coordinates are no finite numbers', 'write [[x, y, ...]]')
TINY_POLYGON = Fault(
    'have a polygon of fewer than three points, which pycocotools cannot evaluate', 'remove it'
)
BAD_RLE = Fault(
    'have an RLE that does not decode to its size', 'encode the mask again, as pycocotools does'
)
RLE_SIZE = Fault("have an RLE of another size than the image's", 'its size is [height, width]')

_DROPS = {'remedy': 'they are left out', 'fatal': False, 'drops': True}
UNKNOWN_IMAGE = Fault('have an image_id that no image has', **_DROPS)
UNKNOWN_CATEGORY = Fault('have a category_id that no category has', **_DROPS)
NO_EXTENT = Fault('have no area above 0', **_DROPS)
SMALL_BOX = Fault('have a box smaller than 1 pixel', **_DROPS)
OUTSIDE = Fault('have a box outside the image', **_DROPS)
NO_POLYGON = Fault('have no polygon of three points or more', 'they count as crowds', False, True)
RLE_IGNORED = Fault('have RLE masks', 'poly2mask=False makes them crowds', False, True)
LEAVES = Fault(
    'have a box that leaves the image', 'is it [x, y, width, height] and no corners?', False
)


@dataclass(frozen=True)
class Use:
    """What a run does with a COCO file.

    Attributes:
        folder: where the images lie; '' where their names are whole paths.
        classes: names of the categories that are used.
        masks: whether masks are read.
        polygons: whether masks must be polygons.
        evaluated: whether the file is what predictions are compared with.
        boxes_alone: how to do without masks.
    """

    folder: str
    classes: Collection[str]
    masks: bool
    polygons: bool
    evaluated: bool
    boxes_alone: str


def check_lists(content: object, source: str, classes: Collection[str]) -> None:
    """Check that a file is a COCO file at all.

    Args:
        content: what the JSON file holds.
        source: the data set and its file, for the messages.
        classes: names of the categories that are used.

    Raises:
        InputError: it lacks lists, or its categories are not in order.
    """
    lists = content if isinstance(content, dict) else {}
    for key in ('categories', 'images'):
        if not isinstance(lists.get(key), list):
            raise InputError(f'{source} is no COCO annotation file: it has no list {key!r}')
    if not isinstance(lists.get('annotations', []), list):
        raise InputError(f"{source} is no COCO annotation file: 'annotations' is no list")
    if not lists['images']:
        raise InputError(f'{source} lists no images')
    _check_categories(lists['categories'], source, classes)


def check_entries(lists: dict, source: str, use: Use) -> None:
    """Check all images and annotations; what leaves objects out is a warning with a count.

    Args:
        lists: what the JSON file holds.
        source: the data set and its file, for the messages.
        use: what the run does with it.

    Raises:
        InputError: the first kind of fault with which training cannot go on, with its count.
    """
    _check_images(lists['images'], source, use)
    if lists.get('annotations'):
        _check_annotations(lists, source, use)
    elif use.evaluated:
        warn(f'{source} has no annotations: there is nothing to compare predictions with')
    else:
        raise InputError(f'{source} has no annotations: there is nothing to learn from')


def _check_categories(categories: list, source: str, classes: Collection[str]) -> None:
    faults = Faults()
    for index, category in enumerate(categories):
        fault = _fault_of_entry(category)
        if fault is None and not isinstance(category.get('name'), str):
            fault = NO_NAME
        if fault:
            faults.add(fault, index)
    faults.report(source, 'categories', len(categories), lambda i: f'number {i}: {categories[i]}')
    _check_unique([category['id'] for category in categories], 'category id', source)
    names = [category['name'] for category in categories if category['name'] in classes]
    _check_unique(names, 'category name', source)


def _check_images(images: list, source: str, use: Use) -> None:
    faults = Faults()
    out = Fault(
        f'have a file_name that leads out of {use.folder}',
        'put the images there, or set data_prefix.img to a folder that holds them all',
    )
    for index, image in enumerate(images):
        fault = _fault_of_entry(image) or _fault_of_image(image)
        if fault is None and _leads_out(image['file_name'], use.folder):
            fault = out
        if fault:
            faults.add(fault, index)
    faults.report(source, 'images', len(images), lambda i: f'number {i}: {images[i]}')
    _check_unique([image['id'] for image in images], 'image id', source)
    repeated = _repeated([image['file_name'] for image in images])
    if repeated:
        name, count = repeated[0]
        warn(
            f'{source}: {len(repeated)} of the images are listed more than once: file_name '
            f'{name!r} occurs {count} times; the objects of each entry are missing in the other'
        )


def _check_annotations(lists: dict, source: str, use: Use) -> None:
    annotations = lists['annotations']
    images = {image['id']: image for image in lists['images']}
    known = {category['id'] for category in lists['categories']}
    used = {c['id'] for c in lists['categories'] if c['name'] in use.classes}
    no_mask = Fault(NO_MASK.what, use.boxes_alone)
    faults = Faults()
    for index, annotation in enumerate(annotations):
        fault = _fault_of_entry(annotation) or _fault_of_reference(annotation, images, known)
        if fault is None and not annotation.get('ignore'):
            image = images[annotation['image_id']]
            fault = _fault_of_box(annotation, image)
            if annotation['category_id'] in used and not (fault and fault.fatal):
                fault = _fault_of_mask(annotation, image, use) or fault
        if fault is None and use.evaluated and 'iscrowd' not in annotation:
            fault = NO_CROWD
        if fault:
            faults.add(no_mask if fault is NO_MASK else fault, index)

    def name(index: int) -> str:
        entry = annotations[index]
        if not isinstance(entry, dict):
            return f'number {index}: {entry}'
        file = images.get(entry.get('image_id'), {}).get('file_name')
        own = [f'image_id {entry.get("image_id")!r}', f'category_id {entry.get("category_id")!r}']
        which = f'annotation {entry["id"]}' if 'id' in entry else f'number {index}'
        return f'{which} of {file} ({", ".join(own)})'

    faults.report(source, 'annotations', len(annotations), name)
    _check_unique([annotation['id'] for annotation in annotations], 'annotation id', source)


def _check_unique(values: list, what: str, source: str) -> None:
    repeated = _repeated(values)
    if repeated:
        value, count = repeated[0]
        others = f', and {len(repeated) - 1} others repeat' if len(repeated) > 1 else ''
        raise InputError(
            f'{source}: {what} {value!r} occurs {count} times{others}; each must be unique'
        )


def _repeated(values: list) -> list[tuple[object, int]]:
    if len(set(values)) == len(values):
        return []
    return [(value, count) for value, count in Counter(values).items() if count > 1]


def _fault_of_entry(entry: object) -> Fault | None:
    if not isinstance(entry, dict):
        return NO_OBJECT
    return None if isinstance(entry.get('id'), ID) else NO_ID


def _fault_of_image(image: dict) -> Fault | None:
    name = image.get('file_name')
    if not (isinstance(name, str) and name):
        return NO_FILE_NAME
    size = image.get('width'), image.get('height')
    return None if _are_numbers(size) and min(size) > 0 else NO_SIZE


def _leads_out(name: str, folder: str) -> bool:
    if not folder or not (os.path.isabs(name) or '..' in name):
        return False
    return os.path.relpath(os.path.join(folder, name), folder).split(os.sep)[0] == os.pardir


def _fault_of_reference(annotation: dict, images: dict, known: set) -> Fault | None:
    for key, known_ids, absent, unknown in (
        ('image_id', images, NO_IMAGE_ID, UNKNOWN_IMAGE),
        ('category_id', known, NO_CATEGORY_ID, UNKNOWN_CATEGORY),
    ):
        value = annotation.get(key)
        if not isinstance(value, ID):
            return absent
        if value not in known_ids:
            return unknown
    return None


def _fault_of_box(annotation: dict, image: dict) -> Fault | None:
    box = annotation.get('bbox')
    if box is None:
        return NO_BBOX
    if not (isinstance(box, list) and len(box) == 4 and _are_numbers(box)):
        return BAD_BBOX
    if not _are_numbers([annotation.get('area')]):
        return NO_AREA
    x, y, width, height = box
    if width < 1 or height < 1:
        return SMALL_BOX
    if annotation['area'] <= 0:
        return NO_EXTENT
    right, bottom = x + width - image['width'], y + height - image['height']
    if x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0:
        return OUTSIDE
    return LEAVES if max(right, bottom, -x, -y) > 1 else None


def _fault_of_mask(annotation: dict, image: dict, use: Use) -> Fault | None:
    if not use.masks:
        return None
    mask = annotation.get('segmentation')
    if not mask:
        return NO_MASK
    if isinstance(mask, dict):
        if use.polygons and not annotation.get('iscrowd'):
            return RLE_IGNORED
        return _fault_of_rle(mask, image)
    if not isinstance(mask, list):
        return BAD_MASK
    if any(isinstance(part, dict) for part in mask):
        return MIXED
    if not all(isinstance(part, list) for part in mask):
        return FLAT if _are_numbers(mask) else BAD_MASK
    try:
        if not all(math.isfinite(sum(polygon)) for polygon in mask):
            return BAD_POLYGON
    except (OverflowError, TypeError):
        return BAD_POLYGON
    if use.evaluated and min(map(len, mask)) <= 4:
        return TINY_POLYGON
    if not any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask):
        return NO_POLYGON
    return None


def _fault_of_rle(rle: dict, image: dict) -> Fault | None:
    try:
        height, width = rle['size']
        total = rle_pixels(rle['counts'])
    except (KeyError, TypeError, ValueError):
        return BAD_RLE
    if total != height * width:
        return BAD_RLE
    return None if [height, width] == [image['height'], image['width']] else RLE_SIZE


def rle_pixels(counts: str | list[int]) -> int:
    """Add up the runs of a mask in COCO's run-length encoding.

    Args:
        counts: the runs' lengths, or their compressed form: little-endian groups of 5 bits with a
            sign, each as a letter from '0' on, the sixth bit telling that the number goes on; from
            the fourth on, numbers are differences from the last but one.

    Returns:
        The number of pixels, which must be height x width: pycocotools decodes shorter ones too,
        to whatever lies in memory.

    Raises:
        ValueError: not an encoding, or a run is negative.
        TypeError: neither a string nor a list of numbers.

    Example:
        >>> rle_pixels([6, 1, 2]), rle_pixels('612')
        (9, 9)
    """
    if isinstance(counts, list):
        runs = np.array(counts)
        if runs.dtype.kind not in 'iu':
            raise TypeError('runs must be whole numbers')
    else:
        digits = np.frombuffer(counts.encode('ascii'), np.uint8).astype(np.int64) - 48
        ends = np.flatnonzero(digits < 32)
        if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] >= 32:
            raise ValueError('not an encoding')
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts + 1
        places = np.arange(digits.size) - np.repeat(starts, lengths)
        if places.max() > 6:  # a run beyond 32 bits
            raise ValueError('not an encoding')
        runs = np.add.reduceat((digits & 31) << (5 * places), starts)
        runs -= np.where(digits[ends] & 16, 1 << (5 * lengths), 0)
        runs[1::2] = np.cumsum(runs[1::2])
        runs[2::2] = np.cumsum(runs[2::2])
    if (runs < 0).any():
        raise ValueError('negative runs')
    return int(runs.sum())


def _are_numbers(values: Collection) -> bool:
    return all(  # which NaN and infinity are not
        isinstance(value, (int, float)) and not isinstance(value, bool) and -LIMIT < value < LIMIT
        for value in values
    )
