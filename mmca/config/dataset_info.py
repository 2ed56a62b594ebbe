"""Inspect the folder of a data set: format, splits, classes, image size."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING

from mmca.errors import InputError
from mmca.io import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import numpy as np

SPLITS = ('train', 'val', 'test')
MAX_DEPTH = 4  # subfolders below the root
HELD_OUT = 0.2  # share of the images, where the data set has no validation split
PROBES = 50  # file names of a COCO file that are looked up in each folder
MANY = 20  # JSON files in a folder; more means one file per image, not COCO
FIELDS = {  # of the entries in a COCO file's lists
    'images': {'id', 'file_name', 'width', 'height'},
    'annotations': {'image_id', 'category_id'},
    'categories': {'id', 'name'},
}
IGNORED = 255  # label
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
    size: tuple[int, int]  # median longer and shorter side of training images, in pixels
    notes: list[str]  # remarks for the user


Folders = dict[Path, list[str]]  # visible folders, relative to the root -> sorted file names


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
    folders = _list_files(root)
    named = {split: file for split, file in (('train', train), ('val', val)) if file}
    if files := _find_coco_files(root, folders, named):
        info = _inspect_coco(root, folders, files)
    elif splits := _match_folders(root, folders):
        info = _inspect_label_maps(root, folders, splits, classes)
    else:
        raise InputError(
            f'{root} has neither a COCO file with images, annotations and categories, nor images '
            'with label maps of the same names; docs/own_data.md shows how to convert YOLO, VOC '
            'and labelme files'
        )
    info.splits = {name: info.splits[name] for name in SPLITS if name in info.splits}
    return info


def _list_files(root: Path) -> Folders:
    if not root.is_dir():
        raise InputError(f'no such folder: {root}')
    folders = {}
    for place, below, files in os.walk(root, followlinks=True):
        folder = Path(place).relative_to(root)
        deep = len(folder.parts) >= MAX_DEPTH
        below[:] = [] if deep else sorted(name for name in below if not name.startswith('.'))
        folders[folder] = sorted(name for name in files if not name.startswith('.'))
    return folders


def _split_of(path: Path) -> str | None:
    """Infer the split from the names in a path; the innermost name wins."""
    for part in reversed(path.parts):
        if found := _SPLIT.search(part.lower()):
            return found[1].replace('dev', 'val')
    return None


def _hold_out(items: list) -> dict[str, list]:
    """Divide images into 'train' and 'val', the same way every time, in the given order."""
    if len(items) < 2:
        raise InputError('one image is too few to hold some out for validation')
    number = max(1, round(HELD_OUT * len(items)))
    chosen = set(Random(0).sample(range(len(items)), number))
    return {
        'train': [item for index, item in enumerate(items) if index not in chosen],
        'val': [items[index] for index in sorted(chosen)],
    }


def _median_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    return int(median(map(max, sizes))), int(median(map(min, sizes)))


# --- COCO


def _find_coco_files(
    root: Path, folders: Folders, named: dict[str, str]
) -> dict[str, tuple[Path, dict]]:
    """Split -> its COCO file and the file's content; `named`: split -> file, by the user."""
    candidates: dict[str, list[Path]] = {}
    for folder, names in folders.items():
        paths = [folder / name for name in names if name.endswith('.json')]
        for path in paths if len(paths) <= MANY else ():
            candidates.setdefault(_split_of(path) or 'train', []).append(root / path)
    for split, name in named.items():
        candidates[split] = [root / name if (root / name).is_file() else Path(name)]
    files = {}
    for split, paths in candidates.items():
        # COCO ships captions and keypoints beside the instances.
        paths = [path for path in paths if path.name.startswith('instances_')] or paths
        read = {path: content for path in paths if (content := _read_coco(path))}
        if len(read) > 1:
            raise InputError(
                f'{" and ".join(map(str, read))} could all be used for {split}: choose with '
                '--train and --val, or move the others away'
            )
        if split in named and not read:
            raise InputError(f'{paths[0]} is not a COCO file with images and objects')
        if read:
            files[split] = read.popitem()
    return files


def _read_coco(path: Path) -> dict | None:
    """The content of a COCO file with objects, None for other JSON files."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f'cannot read {path}: {error}') from error
    lists = [content.get(key) if isinstance(content, dict) else None for key in FIELDS]
    if not all(isinstance(entries, list) and entries for entries in lists):
        return None
    for key, fields in FIELDS.items():
        if not all(isinstance(entry, dict) and fields <= entry.keys() for entry in content[key]):
            raise InputError(f'{path} is malformed: all {key} need {", ".join(sorted(fields))}')
    return content


def _inspect_coco(root: Path, folders: Folders, files: dict[str, tuple[Path, dict]]) -> DatasetInfo:
    if 'train' not in files:
        found = ', '.join(str(path) for path, _ in files.values())
        raise InputError(f'{root} has no COCO file to train on, only {found}; use --train')
    path, content = files['train']
    size = _median_size([(image['width'], image['height']) for image in content['images']])
    masks = any(entry.get('segmentation') for entry in content['annotations'])
    held_out = 'val' not in files
    for name, images in _hold_out(content['images']).items() if held_out else ():
        ids = {image['id'] for image in images}
        kept = [entry for entry in content['annotations'] if entry['image_id'] in ids]
        files[name] = path, {**content, 'images': images, 'annotations': kept}
    splits = {name: _coco_split(root, folders, *file) for name, file in files.items()}
    notes = []
    if held_out:
        for name in ('train', 'val'):
            splits[name].listing, splits[name].content = None, json.dumps(files[name][1])
        number = len(splits['val'].names)
        notes.append(f'no file for validation: {number} images of {path.name} are held out')
    classes = list(splits['train'].objects)
    return DatasetInfo(root, 'masks' if masks else 'boxes', classes, splits, size, notes)


def _coco_split(root: Path, folders: Folders, path: Path, content: dict) -> Split:
    classes = {category['id']: str(category['name']) for category in content['categories']}
    counts = Counter(classes.get(entry['category_id']) for entry in content['annotations'])
    names = [str(image['file_name']) for image in content['images']]
    inside = path.is_relative_to(root)
    listing = path.relative_to(root) if inside else path.resolve()
    own = _split_of(listing if inside else Path(path.name))
    probes = names[:: max(1, len(names) // PROBES)]
    scores = {}
    for folder in folders:
        number = sum((root / folder / name).is_file() for name in probes)
        split = _split_of(folder)
        if number and (not own or split in (None, own)):  # splits may share file names
            scores[folder] = number, split == own
    if not scores:
        raise InputError(f'no folder below {root} has the images of {path}, such as {names[0]}')
    images = max(scores, key=scores.get).as_posix().removeprefix('.')
    objects = {name: counts[name] for name in classes.values()}
    return Split(images, names, listing=listing.as_posix(), objects=objects)


# --- Images and label maps


def _match_folders(root: Path, folders: Folders) -> dict[str, Split]:
    """Match each folder of label maps with the folder of images that fits best."""
    images, maps = {}, {}
    for folder, files in folders.items():
        files = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
        if files:
            first = root / folder / files[0]
            gray = first.suffix.lower() == '.png' and _read_image(first).ndim == 2
            end = _common_ending(files)
            (maps if gray else images)[folder] = {name.removesuffix(end) for name in files}, end
    splits: dict[str, Split] = {}
    for labels, (mapped, label_end) in maps.items():
        name = _split_of(labels)
        scores = {  # splits may share file names
            folder: (len(stems & mapped), _split_of(folder) == name)
            for folder, (stems, _) in images.items()
            if stems & mapped
        }
        if not scores:
            continue
        name, folder = name or 'train', max(scores, key=scores.get)
        if name in splits:
            raise InputError(
                f'{root / splits[name].labels} and {root / labels} both have label maps for '
                f'{name}: move one away'
            )
        stems, end = images[folder]
        places = folder.as_posix(), sorted(stems), labels.as_posix()
        splits[name] = Split(*places, suffixes=(end, label_end))
    return splits


def _common_ending(names: list[str]) -> str:
    """The common end of all names from a dot or underscore on, such as '_leftImg8bit.png'."""
    if len(names) == 1:
        return Path(names[0]).suffix
    common = os.path.commonprefix([name[::-1] for name in names])[::-1]
    return common[re.search('[._]|$', common).start() :]


def _inspect_label_maps(
    root: Path, folders: Folders, splits: dict[str, Split], classes: str | None
) -> DatasetInfo:
    notes: list[str] = []
    if list(splits) == ['train']:
        splits = _divide(root, folders, splits['train'], notes)
    if not {'train', 'val'} <= set(splits):
        raise InputError(
            f'{root} has {" and ".join(splits)}, but training needs train and val: rename folders'
        )
    counts, sizes = {}, []
    for name, split in splits.items():
        counts[name] = _count(root, name, split, sizes)
    names = _class_names(root, classes, set().union(*counts.values()), notes)
    for name, count in counts.items():
        splits[name].objects = {label: count[value] for value, label in enumerate(names)}
    return DatasetInfo(root, 'labels', names, splits, _median_size(sizes), notes)


def _divide(root: Path, folders: Folders, whole: Split, notes: list[str]) -> dict[str, Split]:
    """Divide a single folder by its lists of names, or hold out a validation split."""
    listed = {}
    for path in (folder / file for folder, files in folders.items() for file in files):
        name = _split_of(Path(path.name))
        if path.suffix == '.txt' and name and name not in listed:
            names = (root / path).read_text(encoding='utf-8', errors='replace').split()
            if names and set(whole.names).issuperset(names):
                listed[name] = replace(whole, names=names, listing=path.as_posix())
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


def _count(root: Path, name: str, split: Split, sizes: list[tuple[int, int]]) -> Counter[int]:
    """Label -> number of label maps that contain it; adds the label maps' sizes."""
    import numpy as np
    from rich.progress import track

    counts: Counter[int] = Counter()
    image_end, label_end = split.suffixes
    for stem in track(split.names, f'label maps, {name}', transient=True):
        file = root / split.labels / f'{stem}{label_end}'
        if not file.is_file():
            image = root / split.images / f'{stem}{image_end}'
            raise InputError(f'{image} has no label map {file}: add it, or remove the image')
        labels = _read_image(file)
        sizes.append(labels.shape[:2])
        counts.update(np.unique(labels).tolist())
    counts.pop(IGNORED, None)
    return counts


def _read_image(path: Path) -> np.ndarray:
    import numpy as np
    from PIL import Image

    try:
        return np.asarray(Image.open(path))
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
