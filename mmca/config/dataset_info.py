"""Inspect the folder of a data set: format, splits, classes, image sizes."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING

from mmca.errors import InputError
from mmca.io import IMAGE_SUFFIXES, image_size

if TYPE_CHECKING:
    from PIL import Image

SPLITS = ('train', 'val', 'test')
MAX_DEPTH = 4  # subfolders below the root
HELD_OUT = 0.2  # share of the images, where the data set has no validation split
PROBES = 50  # file names of a COCO file that are looked up in each folder
MANY = 20  # JSON files in a folder; more means one file per image, not COCO
LISTS = ('images', 'annotations', 'categories')
IGNORED = 255  # label
SIZES_READ = 100  # images
GRAY = ('1', 'L', 'P', 'I', 'I;16')  # Pillow's modes with one channel
CLASS_LISTS = ('classes.txt', 'labels.txt', 'label_names.txt')  # one name per line
_SPLIT = re.compile(r'(?<![a-z])(train|val|test|dev)(ing|id|idation)?(annot|mask)?s?(?![a-z])')


@dataclass
class Split:
    """One split of a data set; paths are relative to the data set's root."""

    images: str  # folder
    names: list[str]  # of image files; without the common ending if there are label maps
    labels: str | None = None  # folder of label maps
    suffixes: tuple[str, str] | None = None  # common endings of images and label maps
    listing: str | None = None  # file that lists the images; None: the whole folder, or `content`
    content: str | None = None  # listing of a held-out split, to be written
    objects: dict[str, int] = field(default_factory=dict)  # class -> objects, or label maps with it


@dataclass
class DatasetInfo:
    """A data set."""

    root: Path
    task: str  # 'masks', 'boxes' or 'labels' (label maps)
    classes: list[str]  # names in label order
    splits: dict[str, Split]  # 'train' and 'val', optionally 'test'
    sizes: list[tuple[int, int]]  # (width, height) of training images, in pixels
    notes: list[str] = field(default_factory=list)  # remarks for the user

    @property
    def size(self) -> tuple[int, int]:
        """Median longer side and median shorter side, in pixels."""
        return int(median(map(max, self.sizes))), int(median(map(min, self.sizes)))


def inspect_folder(
    root: str | Path, train: str | None = None, val: str | None = None, classes: str | None = None
) -> DatasetInfo:
    """Inspect a folder with COCO JSON files and images, or with images and label maps.

    Args:
        root: the folder.
        train: COCO file to train on; found by its name by default.
        val: COCO file to validate on; found by its name by default.
        classes: class names of label maps, separated by commas, or a file with one name per line.

    Returns:
        The data set; a fifth of the images is held out if it has no validation split.

    Raises:
        InputError: unknown format, unreadable files, ambiguous or missing splits.
    """
    root = Path(root)
    named = {split: file for split, file in (('train', train), ('val', val)) if file}
    info = _inspect_coco(root, named) or _inspect_label_maps(root, classes)
    if info is None:
        raise InputError(
            f'{root} has neither a COCO file nor images with label maps of the same names; '
            'docs/own_data.md shows how to convert YOLO, VOC and labelme files'
        )
    info.splits = {name: info.splits[name] for name in SPLITS if name in info.splits}
    return info


def _split_of(path: Path) -> str | None:
    """Infer the split from the names in a path; the innermost name wins."""
    for part in reversed(path.parts):
        if found := _SPLIT.search(part.lower()):
            return found[1].replace('dev', 'val')
    return None


def _walk_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each visible folder, starting with the root, and its sorted file names."""
    if not root.is_dir():
        raise InputError(f'no such folder: {root}')
    for place, below, files in os.walk(root, followlinks=True):
        depth = len(Path(place).relative_to(root).parts)
        below[:] = sorted(name for name in below if not name.startswith('.') and depth < MAX_DEPTH)
        yield Path(place), sorted(name for name in files if not name.startswith('.'))


def _hold_out(items: list) -> dict[str, list]:
    """Divide images into 'train' and 'val', the same way every time, in the given order."""
    if len(items) < 2:
        raise InputError(f'{len(items)} image is too few to hold some out for validation')
    chosen = set(Random(0).sample(range(len(items)), max(1, round(HELD_OUT * len(items)))))
    parts = {'train': [], 'val': []}
    for index, item in enumerate(items):
        parts['val' if index in chosen else 'train'].append(item)
    return parts


# --- COCO


def _inspect_coco(root: Path, named: dict[str, str]) -> DatasetInfo | None:
    """Inspect a COCO data set, None if there is none; `named`: split -> file, by the user."""
    files = _find_files(root, named)
    if not files:
        return None
    if 'train' not in files:
        found = ', '.join(str(path) for path, _ in files.values())
        raise InputError(f'{root} has no COCO file to train on, only {found}; use --train')
    splits = {split: _split(root, *file) for split, file in files.items()}
    path, content = files['train']
    images = content['images']
    masks = any(entry.get('segmentation') for entry in content['annotations'])
    sizes = [(image.get('width') or 0, image.get('height') or 0) for image in images]
    sizes = [size for size in sizes if min(size) > 0] or [(640, 480)]
    classes = list(splits['train'].objects)
    info = DatasetInfo(root, 'masks' if masks else 'boxes', classes, splits, sizes)
    if 'val' not in splits:
        for name, part in _hold_out(images).items():
            ids = {image.get('id') for image in part}
            kept = [entry for entry in content['annotations'] if entry.get('image_id') in ids]
            held_out = {**content, 'images': part, 'annotations': kept}
            splits[name] = _split(root, path, held_out)
            splits[name].listing, splits[name].content = None, json.dumps(held_out)
        info.notes.append(
            f'{path.name} is the only file: {len(splits["val"].names)} of its images are held '
            'out for validation'
        )
    return info


def _find_files(root: Path, named: dict[str, str]) -> dict[str, tuple[Path, dict]]:
    """Split -> its COCO file and the file's content."""
    files = {}
    candidates: dict[str, list[Path]] = {}
    for folder, names in _walk_folders(root):
        names = [name for name in names if name.endswith('.json')]
        for path in (folder / name for name in names if len(names) <= MANY):
            candidates.setdefault(_split_of(path.relative_to(root)) or 'train', []).append(path)
    for split, name in named.items():
        candidates[split] = [root / name if (root / name).is_file() else Path(name)]
    for split, paths in candidates.items():
        # COCO ships captions and keypoints beside the instances, and test files without objects.
        paths = [path for path in paths if path.name.startswith('instances_')] or paths
        read = {path: content for path in paths if (content := _read(path)) is not None}
        if split == 'test':
            read = {path: content for path, content in read.items() if content['annotations']}
        if len(read) > 1:
            raise InputError(
                f'{" and ".join(map(str, read))} could all be used for {split}: choose with '
                '--train and --val, or move the others away'
            )
        if split in named and not read:
            raise InputError(f'{paths[0]} is not a COCO file')
        files.update(zip([split], read.items(), strict=False))
    return files


def _read(path: Path) -> dict | None:
    """The content of a COCO file, None for other JSON files."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f'cannot read {path}: {error}') from error
    lists = [content.get(key) if isinstance(content, dict) else None for key in LISTS]
    usable = all(isinstance(found, list) for found in lists) and lists[0] and lists[2]
    return content if usable else None


def _split(root: Path, path: Path, content: dict) -> Split:
    try:  # mmdet numbers classes in the file's order
        classes = {category['id']: str(category['name']) for category in content['categories']}
        counts = Counter(classes.get(entry.get('category_id')) for entry in content['annotations'])
        names = [str(image['file_name']) for image in content['images']]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f'{path} is malformed: images need a file_name, categories an id and a name '
            f'({type(error).__name__}: {error})'
        ) from error
    below = path.relative_to(root) if path.is_relative_to(root) else path.resolve()
    objects = {name: counts[name] for name in classes.values()}
    return Split(_find_images(root, path, names), names, listing=below.as_posix(), objects=objects)


def _find_images(root: Path, path: Path, names: list[str]) -> str:
    """The folder, relative to the root, that has the images of a COCO file."""
    probes = names[:: max(1, len(names) // PROBES)]
    own = _split_of(path.relative_to(root) if path.is_relative_to(root) else Path(path.name))
    scores = {}
    for folder, _ in _walk_folders(root):
        split = _split_of(folder.relative_to(root))
        if not own or split in (None, own):  # splits may share file names
            scores[folder] = sum((folder / name).is_file() for name in probes), split == own
    best = max(scores, key=scores.get, default=root)
    if scores.get(best, (0,))[0] == 0:
        raise InputError(f'no folder below {root} has the images of {path}, such as {names[0]}')
    return best.relative_to(root).as_posix().removeprefix('.')


# --- Images and label maps


def _inspect_label_maps(root: Path, classes: str | None) -> DatasetInfo | None:
    """Inspect images and label maps, None if no folders match; `classes`: names, or a file."""
    splits = _find_splits(root)
    if not splits:
        return None
    notes: list[str] = []
    if list(splits) == ['train']:
        splits = _divide(root, splits['train'], notes)
    if not {'train', 'val'} <= set(splits):
        raise InputError(
            f'{root} has {" and ".join(splits)}, but training needs train and val: rename folders'
        )
    counts = {name: _count(root, name, split) for name, split in splits.items()}
    names = _class_names(root, classes, set().union(*counts.values()), notes)
    for name, count in counts.items():
        splits[name].objects = {label: count[value] for value, label in enumerate(names)}
    train = splits['train']
    files = (root / train.images / f'{name}{train.suffixes[0]}' for name in train.names)
    sizes = [image_size(file) for _, file in zip(range(SIZES_READ), files, strict=False)]
    return DatasetInfo(root, 'labels', names, splits, sizes, notes)


def _find_splits(root: Path) -> dict[str, Split]:
    """Match each folder of label maps with the folder of images that fits best."""
    images, maps = {}, {}
    for folder, files in _walk_folders(root):
        files = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
        if files:
            gray = files[0].lower().endswith('.png') and _open(folder / files[0]).mode in GRAY
            end = _common_ending(files)
            stems = {name.removesuffix(end) for name in files}
            (maps if gray else images)[folder.relative_to(root)] = stems, end
    splits: dict[str, Split] = {}
    for labels, (mapped, label_end) in maps.items():
        scores = {  # splits may share file names
            folder: (len(stems & mapped), _split_of(labels) == _split_of(folder))
            for folder, (stems, _) in images.items()
            if stems & mapped
        }
        if not scores:
            continue
        name, folder = _split_of(labels) or 'train', max(scores, key=scores.get)
        if name in splits:
            raise InputError(
                f'{root / splits[name].labels} and {root / labels} both have label maps for '
                f'{name}: move one away'
            )
        stems, end = images[folder]
        places = folder.as_posix(), sorted(stems), labels.as_posix()
        splits[name] = Split(*places, suffixes=(end, label_end))
    return splits


def _divide(root: Path, whole: Split, notes: list[str]) -> dict[str, Split]:
    """Divide a single folder by its lists of names, or hold out a validation split."""
    listed = {}
    for folder, files in _walk_folders(root):
        for path in (folder / name for name in files if name.endswith('.txt')):
            name = _split_of(Path(path.name))
            names = path.read_text(encoding='utf-8', errors='replace').split()
            if name and name not in listed and names and set(whole.names).issuperset(names):
                listing = path.relative_to(root).as_posix()
                listed[name] = replace(whole, names=names, listing=listing)
    if {'train', 'val'} <= set(listed):
        return listed
    parts = _hold_out(whole.names)
    notes.append(
        f'the images are in one folder: {len(parts["val"])} of them are held out for validation'
    )
    return {
        split: replace(whole, names=names, content=''.join(f'{name}\n' for name in names))
        for split, names in parts.items()
    }


def _common_ending(names: list[str]) -> str:
    """The common end of all names from a dot or underscore on, such as '_leftImg8bit.png'."""
    if len(names) == 1:
        return Path(names[0]).suffix
    common = os.path.commonprefix([name[::-1] for name in names])[::-1]
    starts = [common.find(mark) for mark in '._' if mark in common]
    return common[min(starts) :] if starts else ''


def _count(root: Path, name: str, split: Split) -> Counter[int]:
    """Label -> number of label maps that contain it."""
    import numpy as np
    from rich.progress import track

    counts: Counter[int] = Counter()
    image_end, label_end = split.suffixes
    for stem in track(split.names, f'label maps, {name}', transient=True):
        file = root / split.labels / f'{stem}{label_end}'
        if not file.is_file():
            image = root / split.images / f'{stem}{image_end}'
            raise InputError(f'{image} has no label map {file}: add it, or remove the image')
        counts.update(np.unique(np.asarray(_open(file))).tolist())
    counts.pop(IGNORED, None)
    return counts


def _open(path: Path) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except OSError as error:
        raise InputError(f'cannot read {path}: {error}') from error


def _class_names(root: Path, given: str | None, labels: set[int], notes: list[str]) -> list[str]:
    number = max(labels, default=0) + 1
    if number < 2:
        raise InputError(
            f'the label maps in {root} have no labels but 0 and {IGNORED} (ignored): write class '
            'numbers from 0 on, such as 0 for background, 1 for objects'
        )
    lists = (root / name for name in CLASS_LISTS)
    given = given or next((str(file) for file in lists if file.is_file()), None)
    if given is None:
        if number > 2 * len(labels):
            raise InputError(
                f'the label maps in {root} have labels up to {number - 1}, but only {len(labels)} '
                'different ones: write class numbers 0, 1, 2, ..., or list all names with --classes'
            )
        notes.append('the classes have no names: use --classes, or classes.txt in the folder')
        return [f'class_{value}' for value in range(number)]
    file = Path(given)
    names = file.read_text(encoding='utf-8').splitlines() if file.is_file() else given.split(',')
    names = [name.strip() for name in names if name.strip()]
    if number > len(names):
        raise InputError(
            f'{given} names {len(names)} classes, but the label maps in {root} have label '
            f'{number - 1}: name {number}, or write {IGNORED} where nothing is labeled'
        )
    return names
