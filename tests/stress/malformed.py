"""What can be wrong with a data set: a corpus of cases.

Each case changes one split of a good data set. Training and testing must end with a line that has
the case's words, or go on with a warning that has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pycocotools.mask
from PIL import Image

from tests.stress.good_data import HEIGHT, KINDS, NUMBER, VICTIM, WIDTH, Files, photo


@dataclass(frozen=True)
class Case:
    """One thing that is wrong.

    Attributes:
        name: of the case.
        kind: of the data set, one of `KINDS`.
        change: damages one split.
        words: what the line must say.
        outcome: 'error', 'warning', or '' where nothing is wrong; of testing, in `test_outcome`.
    """

    name: str
    kind: str
    change: Callable[[Files], None]
    words: str
    outcome: str = 'error'
    test_outcome: str | None = None

    def outcome_of(self, tool: str) -> str:
        """What is expected of 'train' or 'test'."""
        own = self.test_outcome if tool == 'test' else None
        return self.outcome if own is None else own


# --- Cases: COCO files


def _edit(change: Callable[[dict], object]) -> Callable[[Files], None]:
    """A change of what a COCO file holds."""

    def edit(files: Files) -> None:
        content = json.loads(files.json.read_text())
        change(content)
        files.json.write_text(json.dumps(content))

    return edit


def _one(key: str, **values: object) -> Callable[[Files], None]:
    """Set values of one image, annotation or category; None removes the key."""

    def change(content: dict) -> None:
        entry = content[key][VICTIM]
        for name, value in values.items():
            if value is None:
                del entry[name]
            else:
                entry[name] = value

    return _edit(change)


def _all(**values: object) -> Callable[[Files], None]:
    """Set values of all annotations; None removes the key."""

    def change(content: dict) -> None:
        for entry in content['annotations']:
            entry.update(values)
            for name in [name for name, value in values.items() if value is None]:
                del entry[name]

    return _edit(change)


def _text(change: Callable[[str], str]) -> Callable[[Files], None]:
    return lambda files: files.json.write_text(change(files.json.read_text()))


def _rle(**values: object) -> Callable[[Files], None]:
    """Give one annotation a mask in RLE, with some values of it changed; None removes the key."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[6:36, 4:28] = 1
    rle = {**pycocotools.mask.encode(mask), **values}
    if isinstance(rle['counts'], bytes):
        rle['counts'] = rle['counts'].decode()
    rle = {name: value for name, value in rle.items() if value is not None}
    return _one('annotations', segmentation=rle)


BOX = [4, 6, 24, 30]
SQUARE = [4, 6, 28, 6, 28, 36, 4, 36]
ONE = f'1 of the {2 * NUMBER} annotations'
FIRST = f'annotation {100 + VICTIM}'
RLE = {'size': [HEIGHT, WIDTH], 'counts': [0, HEIGHT * WIDTH]}

COCO = [
    ('truncated JSON', _text(lambda text: text[: len(text) // 2]), 'is no COCO annotation file'),
    ('empty JSON', _text(lambda _: ''), 'is no COCO annotation file'),
    ('HTML instead of JSON', _text(lambda _: '<html>404</html>'), 'is no COCO annotation file'),
    ('list instead of object', _text(lambda _: '[]'), "it has no list 'categories'"),
    ('not UTF-8', lambda files: files.json.write_bytes(b'{"\xff\xfe": 1}'), 'is no COCO anno'),
    ('no list of images', _edit(lambda c: c.pop('images')), "it has no list 'images'"),
    ('no list of categories', _edit(lambda c: c.pop('categories')), "no list 'categories'"),
    ('images in an object', _edit(lambda c: c.update(images={})), "it has no list 'images'"),
    ('annotations in an object', _edit(lambda c: c.update(annotations={'1': {}})), "'annotations'"),
    ('an image that is a name', _edit(lambda c: c['images'].append('7.jpg')), 'are no objects'),
    (
        'an annotation that is null',
        _edit(lambda c: c['annotations'].append(None)),
        'are no objects',
    ),
    ('no images', _edit(lambda c: c.update(images=[])), 'lists no images'),
    # masks
    ('boxes without masks', _all(segmentation=None), 'model.roi_head.mask_head=None'),
    ('one box without a mask', _one('annotations', segmentation=None), f'{ONE} have no segment'),
    ('empty segmentation', _one('annotations', segmentation=[]), f'{ONE} have no segmentation'),
    ('segmentation null', _one('annotations', segmentation=''), f'{ONE} have no segmentation'),
    ('mixed segmentation', _one('annotations', segmentation=[SQUARE, RLE]), 'polygons and RLE'),
    ('flat polygon', _one('annotations', segmentation=SQUARE), 'write [[x, y, x, y, ...]]'),
    ('polygon of text', _one('annotations', segmentation=[['a'] * 6]), 'are no finite numbers'),
    ('polygon of NaN', _one('annotations', segmentation=[[float('nan')] * 6]), 'no finite numbers'),
    ('segmentation is a number', _one('annotations', segmentation=7), FIRST),
    ('RLE of unknown letters', _rle(counts='~~~~'), f'{ONE} have an RLE that does not decode'),
    ('RLE that ends early', _rle(counts='0'), f'{ONE} have an RLE that does not decode'),
    ('RLE cut inside a number', _rle(counts='PPPPPP'), 'an RLE that does not decode'),
    ('RLE of negative runs', _rle(counts=[-5, 5, HEIGHT * WIDTH]), 'an RLE that does not decode'),
    ('RLE of text', _rle(counts=['a', 'b']), 'an RLE that does not decode'),
    ('RLE without counts', _rle(counts=None), 'an RLE that does not decode'),
    ('RLE without size', _rle(size=None), 'an RLE that does not decode'),
    ('RLE of another size', _rle(size=[WIDTH, HEIGHT]), 'an RLE of another size'),
    # ids
    ('all categories unknown', _all(category_id=77), 'category_id 77'),
    ('ids of text and of numbers', _all(image_id='2'), "image_id '2'"),
    ('annotation without an image', _one('annotations', image_id=None), 'have no image_id'),
    ('annotation without a category', _one('annotations', category_id=None), 'no category_id'),
    ('annotation id twice', _one('annotations', id=100), 'annotation id 100 occurs 2 times'),
    ('annotation without id', _one('annotations', id=None), 'have no id'),
    ('image id twice', _one('images', id=0), 'image id 0 occurs 2 times'),
    ('image without id', _one('images', id=None), 'have no id'),
    ('image id is a list', _one('images', id=[1]), 'have no id'),
    ('category id twice', _one('categories', id=1), 'category id 1 occurs 2 times'),
    ('category name twice', _one('categories', name='date'), "category name 'date' occurs 2 times"),
    ('category without name', _one('categories', name=None), 'have no name'),
    ('category without id', _one('categories', id=None), 'have no id'),
    # boxes
    ('no box', _one('annotations', bbox=None), f'{ONE} have no bbox'),
    ('box of text', _one('annotations', bbox=['4', '6', '24', '30']), 'finite numbers'),
    ('box of NaN', _one('annotations', bbox=[float('nan'), 6, 24, 30]), 'finite numbers'),
    ('infinite box', _one('annotations', bbox=[4, 6, float('inf'), 30]), 'finite numbers'),
    ('box of three numbers', _one('annotations', bbox=[4, 6, 24]), 'finite numbers'),
    ('box is empty list', _one('annotations', bbox=[]), 'finite numbers'),
    ('no area', _one('annotations', area=None), 'have no area'),
    ('area of text', _one('annotations', area='720'), 'have no area'),
    ('area NaN', _one('annotations', area=float('nan')), 'have no area'),
    # images
    ('image without width', _one('images', width=None), 'have no width and height'),
    ('width is text', _one('images', width='64'), 'have no width and height'),
    ('width is zero', _one('images', width=0), 'have no width and height'),
    ('height NaN', _one('images', height=float('nan')), 'have no width and height'),
    ('size of another image', _one('images', width=WIDTH * 2), f'is {WIDTH} x {HEIGHT}'),
    ('path out of the folder', _one('images', file_name='../2.jpg'), 'leads out of'),
    ('absolute path', _one('images', file_name='/tmp/2.jpg'), 'leads out of'),
    ('image without a name', _one('images', file_name=None), 'have no file_name'),
    ('name is empty', _one('images', file_name=''), 'have no file_name'),
    ('name is a number', _one('images', file_name=7), 'have no file_name'),
]
COCO_WARNINGS = [
    ('odd polygon', _one('annotations', segmentation=[[1, 2, 3, 4, 5, 6, 7]]), f'{ONE} have no po'),
    ('one category unknown', _one('annotations', category_id=77), f'{ONE} have a category_id'),
    ('one image unknown', _one('annotations', image_id=77), f'{ONE} have an image_id'),
    ('empty box', _one('annotations', bbox=[4, 6, 0, 30]), f'{ONE} have a box smaller than 1'),
    ('negative box', _one('annotations', bbox=[28, 36, -24, -30]), f'{ONE} have a box smaller'),
    ('area zero', _one('annotations', area=0), f'{ONE} have no area above 0'),
    ('box outside', _one('annotations', bbox=[90, 6, 24, 30]), f'{ONE} have a box outside'),
    ('box that leaves', _one('annotations', bbox=[34, 6, 58, 36]), 'x, y, width, height'),
    ('two images of one name', _one('images', file_name='0.jpg'), "'0.jpg' occurs 2 times"),
]


# --- Cases: image files


def _save(make: Callable[[Image.Image], Image.Image], kind: str = 'PNG', **options: object):
    """Rewrite the image, in the format `kind` under its own name."""

    def change(files: Files) -> None:
        image = Image.open(files.image)
        image.load()
        make(image).save(files.image, kind, **options)

    return change


def _bytes(change: Callable[[bytes], bytes], attribute: str = 'image') -> Callable[[Files], None]:
    def rewrite(files: Files) -> None:
        path = getattr(files, attribute)
        path.write_bytes(change(path.read_bytes()))

    return rewrite


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _sixteen(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 256)


def _frames() -> list[Image.Image]:
    return [photo(np.random.default_rng(i)) for i in range(2)]


def _into_folder(files: Files) -> None:
    files.image.unlink()
    files.image.mkdir()


IMAGES = [
    ('truncated JPEG', _bytes(lambda b: b[: len(b) // 2]), '2.jpg'),
    ('JPEG without its last bytes', _bytes(lambda b: b[:-20]), '2.jpg'),
    ('truncated PNG', None, '2.jpg'),
    ('empty image', _bytes(lambda b: b''), '2.jpg'),
    ('HTML instead of an image', _bytes(lambda b: b'<html>404 not found</html>'), '2.jpg'),
    ('text instead of an image', _bytes(lambda b: b'version https://git-lfs'), '2.jpg'),
]
GONE = [
    ('image absent', lambda files: files.image.unlink(), 'not there'),
    ('folder instead of an image', _into_folder, '2.jpg'),
]
MODES = [
    ('CMYK', _save(lambda i: i.convert('CMYK'), 'JPEG'), 'CMYK'),
    ('16 bit', _save(_sixteen), '16 bit'),
    ('animated GIF', _save(lambda i: i, 'GIF', save_all=True, append_images=_frames()), 'animated'),
    ('animated PNG', _save(lambda i: i, 'PNG', save_all=True, append_images=_frames()), 'animated'),
    ('animated WebP', _save(lambda i: i, 'WEBP', save_all=True, append_images=_frames()), 'animat'),
    ('gray with alpha', _save(lambda i: i.convert('LA')), 'transparency'),
    ('color with alpha', _save(lambda i: i.convert('RGBA')), 'transparency'),
]
FINE = [
    ('palette', _save(lambda i: i.convert('P'), 'GIF'), ''),
    ('gray', _save(lambda i: i.convert('L'), 'JPEG'), ''),
    ('one bit', _save(lambda i: i.convert('1')), ''),
    ('EXIF upright', _save(lambda i: i, 'JPEG', exif=_exif(1)), ''),
]


def _truncated_png(files: Files) -> None:
    _save(lambda image: image)(files)
    _bytes(lambda b: b[: len(b) // 2])(files)


IMAGES[2] = (IMAGES[2][0], _truncated_png, IMAGES[2][2])


def _turned(files: Files) -> None:
    """An image that its EXIF data turn on a side; the annotations mean the pixels as stored."""
    _save(lambda image: image, 'JPEG', exif=_exif(6))(files)


def _turned_back(files: Files) -> None:
    """An image that its EXIF data turn upright; the annotations mean that."""
    _save(lambda image: image.transpose(Image.ROTATE_90), 'JPEG', exif=_exif(6))(files)


# --- Cases: label maps


def _labels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Files], None]:
    def rewrite(files: Files) -> None:
        labels = change(np.asarray(Image.open(files.map)).copy())
        Image.fromarray(labels).save(files.map)

    return rewrite


def _beyond(labels: np.ndarray) -> np.ndarray:
    labels[:2, :5] = 9  # 8 after reduce_zero_label
    return labels


MAPS = [
    ('label beyond the classes', _labels(_beyond), f'label 8 in 10 of its {WIDTH * HEIGHT} pixels'),
    ('map of another size', _labels(lambda a: a[:-4, :-4]), f'is {WIDTH - 4} x {HEIGHT - 4}'),
    ('map of half the size', _labels(lambda a: a[::2, ::2]), f'is {WIDTH // 2} x {HEIGHT // 2}'),
    ('color map', _labels(lambda a: np.stack([a] * 3, -1)), 'is a color image'),
    ('map with alpha', _labels(lambda a: np.stack([a] * 2, -1)), 'is a color image'),
    ('16-bit map', _labels(lambda a: a.astype(np.uint16) + 256), 'label 256'),
    ('truncated map', _bytes(lambda b: b[: len(b) // 2], 'map'), '2.png'),
    ('empty map', _bytes(lambda b: b'', 'map'), '2.png'),
    ('HTML instead of a map', _bytes(lambda b: b'<html>', 'map'), '2.png'),
    ('map absent', lambda files: files.map.unlink(), 'no label map'),
    ('EXIF turns it, map as stored', _turned, 'EXIF'),
]
MAPS_FINE = [
    ('ignored labels', _labels(lambda a: np.where(a == 1, 255, a).astype(np.uint8)), ''),
    ('all zero', _labels(np.zeros_like), ''),
]


def _cases() -> list[Case]:
    cases = [Case(name, 'coco', change, words) for name, change, words in COCO]
    cases += [Case(name, 'coco', change, words, 'warning') for name, change, words in COCO_WARNINGS]
    for name, change in (
        ('no annotations', _edit(lambda c: c.update(annotations=[]))),
        ('no list of annotations', _edit(lambda c: c.pop('annotations'))),
    ):
        cases.append(Case(name, 'coco', change, 'has no annotations', 'error', 'warning'))
    cases.append(
        Case(
            'no iscrowd', 'coco', _one('annotations', iscrowd=None), 'have no iscrowd', '', 'error'
        )
    )
    short = _one('annotations', segmentation=[[1, 2, 3, 4]])
    cases.append(Case('short polygon', 'coco', short, 'three points', 'warning', 'error'))
    cases.append(Case('EXIF turns it', 'coco', _turned, 'ignore_orientation'))
    cases.append(Case('EXIF turned, size after', 'coco', _turned_back, '', ''))
    for kind in KINDS:
        cases += [Case(name, kind, change, words) for name, change, words in IMAGES]
        cases += [Case(name, kind, change, words, 'warning') for name, change, words in MODES]
        cases += [Case(name, kind, change, words, '') for name, change, words in FINE]
    turned = _save(lambda i: i, 'JPEG', exif=_exif(3))
    for kind, outcome in (('coco', 'warning'), ('ade', 'warning'), ('folders', '')):
        cases.append(Case('EXIF upside down', kind, turned, 'EXIF', outcome))
    cases += [Case(name, 'coco', change, words) for name, change, words in GONE]
    cases += [Case(name, 'ade', change, words) for name, change, words in MAPS]
    cases += [Case(name, 'ade', change, words, '') for name, change, words in MAPS_FINE]
    return cases


CASES = _cases()

# Those that training meets where the checks before it have not looked into the file.
LATE = [
    ('coco', 'truncated JPEG'),
    ('coco', 'empty image'),
    ('coco', 'HTML instead of an image'),
    ('coco', 'folder instead of an image'),
    ('ade', 'truncated PNG'),
    ('ade', 'label beyond the classes'),
    ('ade', 'map of half the size'),
    ('ade', 'color map'),
    ('ade', 'truncated map'),
    ('ade', 'EXIF turns it, map as stored'),
    ('folders', 'truncated JPEG'),
    ('folders', 'HTML instead of an image'),
]


def case_of(kind: str, name: str) -> Case:
    """The case of that name."""
    return next(case for case in CASES if (case.kind, case.name) == (kind, name))
