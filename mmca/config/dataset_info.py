"""Inspect the folder of a data set: format, splits, classes, image size."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations, product
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from mmca.errors import InputError
from mmca.io import IMAGE_SUFFIXES, complete_coco

if TYPE_CHECKING:
    from PIL import Image

SPLITS = ('train', 'val', 'test')
MAX_DEPTH = 4  # subfolders below the root
HELD_OUT = 0.2  # share of the images, where the data set has no validation split
PROBES = 50  # file names of a COCO file that are looked up in each folder
SAMPLES = 8  # images of a folder whose values are counted
MAX_VALUES = 100  # different ones in a label map; photographs have more
MANY = 20  # JSON files in a folder; more means one file per image, not COCO
FIELDS = {  # of the entries in a COCO file's lists
    'images': {'id', 'file_name', 'width', 'height'},
    'annotations': {'image_id', 'category_id'},
    'categories': {'id', 'name'},
}
IGNORED = 255  # label
UTF_16 = (b'\xff\xfe', b'\xfe\xff')  # how such a text begins
CLASS_LISTS = ('classes.txt', 'labels.txt', 'label_names.txt')  # one name per line
_SPLIT = re.compile(r'(?<![a-z])(train|val|test|dev)(ing|id|idation)?(annot|mask)?s?(?![a-z])')

# Endings of images and of label maps, such as '_leftImg8bit.png' -> the names before them.
Pairs = dict[tuple[str, str], list[str]]


@dataclass
class Split:
    """One split of a data set; paths are relative to the data set's root."""

    images: str  # folder
    names: list[str]  # of image files
    labels: str | None = None  # folder of label maps
    pairs: Pairs = field(default_factory=dict)  # images with a label map
    bare: list[str] = field(default_factory=list)  # image files without a label map
    whole: bool = True  # whether `pairs` has all images in the folder with these endings
    lists: dict[tuple[str, str], str] = field(default_factory=dict)  # endings -> file, else
    listing: str | None = None  # file that lists the images; None: the whole folder, or `content`
    content: str | None = None  # listing of a held-out split, to be written
    objects: dict[str, int] = field(default_factory=dict)  # class -> objects, or label maps with it

    def files(self, kind: int) -> list[str]:
        """The files with a counterpart: 0 for images, 1 for label maps."""
        return [stem + ends[kind] for ends, stems in self.pairs.items() for stem in stems]


@dataclass
class DatasetInfo:
    """A data set."""

    root: Path
    task: str  # 'masks', 'boxes' or 'labels' (label maps)
    classes: list[str]  # names in label order
    splits: dict[str, Split]  # 'train' and 'val', optionally 'test'
    size: tuple[int, int]  # median longer and shorter side of training images, in pixels
    notes: list[str]  # remarks for the user
    reduce_zero_label: bool = False  # whether the classes' numbers begin at 1


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
    faults: list[InputError] = []
    if files := _find_coco_files(root, folders, named, faults):
        info = _inspect_coco(root, folders, files)
    elif splits := _match_folders(root, folders):
        info = _inspect_label_maps(root, folders, splits, classes)
    elif faults:
        raise faults[0]
    else:
        raise InputError(
            f'{root} has neither a COCO file with images, annotations and categories, nor images '
            'with label maps of the same names; docs/own_data.md shows how to convert YOLO, VOC '
            'and labelme files'
        )
    info.notes += [f'left out: {fault}' for fault in faults]
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
    root: Path, folders: Folders, named: dict[str, str], faults: list[InputError]
) -> dict[str, tuple[Path, dict]]:
    """Split -> its COCO file and the file's content.

    Args:
        root: the folder.
        folders: below it.
        named: split -> file, by the user.
        faults: gets what is wrong with files that no split needs.
    """
    candidates: dict[str | None, list[Path]] = {}
    for folder, names in folders.items():
        paths = [folder / name for name in names if name.endswith('.json')]
        for path in paths if len(paths) <= MANY else ():
            candidates.setdefault(_split_of(path), []).append(root / path)
    for split, name in named.items():
        candidates[split] = [root / name if (root / name).is_file() else Path(name)]
    files, missing = {}, []
    for split in (*SPLITS, None):  # a file without a split is for training
        if split is None and 'train' in files:
            continue
        paths = candidates.get(split, [])
        # COCO ships captions and keypoints beside the instances.
        paths = [path for path in paths if path.name.startswith('instances_')] or paths
        read, wrong = {}, []
        for path in paths:
            try:
                if content := _read_coco(path):
                    read[path] = content
            except InputError as error:
                wrong.append(error)
        if len(read) > 1:
            raise InputError(
                f'{" and ".join(map(str, read))} could all be used for {split or "train"}: choose '
                'with --train and --val, or move the others away'
            )
        if split in named and not read:
            reason = f'{paths[0]} is not a COCO file with images and objects'
            raise wrong[0] if wrong else InputError(reason)
        if read:
            files[split or 'train'] = read.popitem()
        elif split:
            missing += wrong
        faults += wrong
    if files and missing:
        raise missing[0]
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
    return complete_coco(content)


def _inspect_coco(root: Path, folders: Folders, files: dict[str, tuple[Path, dict]]) -> DatasetInfo:
    if 'train' not in files:
        found = ', '.join(str(path) for path, _ in files.values())
        raise InputError(f'{root} has no COCO file to train on, only {found}; use --train')
    path, content = files['train']
    size = _median_size([(image['width'], image['height']) for image in content['images']])
    objects = [entry for _, file in files.values() for entry in file['annotations']]
    bare = sum(not entry.get('segmentation') for entry in objects)
    held_out = 'val' not in files
    for name, images in _hold_out(content['images']).items() if held_out else ():
        ids = {image['id'] for image in images}
        kept = [entry for entry in content['annotations'] if entry['image_id'] in ids]
        files[name] = path, {**content, 'images': images, 'annotations': kept}
    splits = {name: _coco_split(root, folders, *file) for name, file in files.items()}
    notes = []
    if 0 < bare < len(objects):
        notes.append(f'{bare} of {len(objects)} objects have no mask, so boxes alone are trained')
    if held_out:
        for name in ('train', 'val'):
            splits[name].listing, splits[name].content = None, json.dumps(files[name][1])
        number = len(splits['val'].names)
        notes.append(f'no file for validation: {number} images of {path.name} are held out')
    classes = list(splits['train'].objects)
    return DatasetInfo(root, 'boxes' if bare else 'masks', classes, splits, size, notes)


def _coco_split(root: Path, folders: Folders, path: Path, content: dict) -> Split:
    classes = {category['id']: category['name'] for category in content['categories']}
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


class _Group(NamedTuple):
    """Image files of one folder with one suffix, all in color or all of one channel."""

    folder: Path
    suffix: str
    names: list[str]
    values: float  # different ones in an image, the median of some; infinite in color


def _group_images(root: Path, folders: Folders) -> Iterator[_Group]:
    import numpy as np

    for folder, files in folders.items():
        found: dict[tuple[str, bool], list[str]] = {}
        for name in _images(files):
            gray = len(_open(root / folder / name, load=False).getbands()) == 1  # or with a palette
            found.setdefault((Path(name).suffix, gray), []).append(name)
        for (suffix, gray), names in found.items():
            some = names[:: -(-len(names) // SAMPLES)] if gray else ()
            values = [len(np.unique(_open(root / folder / name))) for name in some]
            yield _Group(folder, suffix, names, median(values) if gray else math.inf)


def _images(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]


def _open(path: Path, load: bool = True) -> Image.Image:
    from PIL import Image

    try:
        image = Image.open(path)
        if load:
            image.load()
    except OSError as error:
        raise InputError(f'cannot read {path}: {error}') from error
    return image


def _match_folders(root: Path, folders: Folders) -> dict[str, Split]:
    """Match each folder of label maps with the folder of images that fits best.

    Label maps have one channel, and few values: fewer than their images, if those are gray.
    """
    groups = list(_group_images(root, folders))
    found: dict[str, dict[tuple[Path, Path], Pairs]] = {}
    for images, maps in permutations(groups, 2):
        own = {_split_of(maps.folder), _split_of(images.folder)} - {None}
        if maps.values > MAX_VALUES or maps.values >= images.values or len(own) > 1:
            continue
        endings, stems = max(_matches(images, maps), key=lambda match: len(match[1]))
        if stems:
            matches = found.setdefault(own.pop() if own else 'train', {})
            matches.setdefault((images.folder, maps.folder), {})[endings] = sorted(stems)
    if not found:
        _refuse_color_maps(root, groups)
    return {name: _best_match(root, folders, name, found[name]) for name in found}


def _matches(images: _Group, maps: _Group) -> Iterator[tuple[tuple[str, str], set[str]]]:
    """Endings of two groups, and the names before them that both have."""
    endings = ((group.suffix, _common_ending(group.names)) for group in (images, maps))
    for own, other in product(*endings):
        stems = {name.removesuffix(own) for name in images.names}
        yield (own, other), stems & {name.removesuffix(other) for name in maps.names}


def _common_ending(names: list[str]) -> str:
    """The common end of all names from a dot or underscore on, such as '_leftImg8bit.png'."""
    if len(names) == 1:
        return Path(names[0]).suffix
    common = os.path.commonprefix([name[::-1] for name in names])[::-1]
    return common[re.search('[._]|$', common).start() :]


def _best_match(
    root: Path, folders: Folders, name: str, matches: dict[tuple[Path, Path], Pairs]
) -> Split:
    """The split of the two folders with most pairs, or else with its name."""

    def rank(match: tuple[Path, Path]) -> tuple[int, int]:
        return sum(map(len, matches[match].values())), [*map(_split_of, match)].count(name)

    images, maps = best = max(matches, key=rank)
    for _, other in matches:
        if other != maps:
            raise InputError(
                f'{root / maps} and {root / other} both have label maps for {name}: move one away'
            )
    split = Split(images.as_posix(), [], maps.as_posix(), matches[best])
    if any(ending.lower().endswith(('.jpg', '.jpeg')) for _, ending in split.pairs):
        raise InputError(f'{root / maps} has label maps in JPEG, which blurs them: write PNG')
    used = {*split.files(0), *(split.files(1) if images == maps else ())}
    split.bare = [file for file in _images(folders[images]) if file not in used]
    return split


def _refuse_color_maps(root: Path, groups: list[_Group]) -> None:
    """Raise where images of few colors have the names of photographs."""
    for images, maps in permutations(groups, 2):
        first = [_open(root / group.folder / group.names[0]) for group in (images, maps)]
        many, few = (image.convert('RGB').getcolors(MAX_VALUES) for image in first)
        if few and not many and any(stems for _, stems in _matches(images, maps)):
            raise InputError(
                f'{root / maps.folder} has images with the colors '
                f'{", ".join(str(color) for _, color in few[:4])}, ..., but a label map has one '
                'channel of class numbers: convert them, see "Color maps" in docs/own_data.md'
            )


def _inspect_label_maps(
    root: Path, folders: Folders, splits: dict[str, Split], classes: str | None
) -> DatasetInfo:
    notes: list[str] = []
    if 'val' not in splits and 'train' in splits:
        splits |= _divide(root, folders, splits['train'], notes)
    if not {'train', 'val'} <= set(splits):
        raise InputError(
            f'{root} has {" and ".join(splits)}, but training needs train and val: rename folders'
        )
    counts, sizes = {}, []
    for name, split in splits.items():
        split.names, place = split.files(0), Path(split.images)
        below = [files for folder, files in folders.items() if place in (folder, *folder.parents)]
        split.whole = all(  # as mmseg lists a folder
            len(stems) == sum(file.endswith(end) for files in below for file in files)
            for (end, _), stems in split.pairs.items()
        )
        if split.bare:
            notes.append(
                f'{len(split.bare)} images of {name} without a label map are left out, such as '
                f'{split.bare[0]}'
            )
        counts[name] = _count(root, name, split, sizes)
    labels = set().union(*counts.values())
    names, first = _class_names(root, classes, labels, notes)
    for name, count in counts.items():
        splits[name].objects = {label: count[value] for value, label in enumerate(names, first)}
    return DatasetInfo(root, 'labels', names, splits, _median_size(sizes), notes, first == 1)


def _divide(root: Path, folders: Folders, whole: Split, notes: list[str]) -> dict[str, Split]:
    """Divide a single folder by its lists of names, or hold out a validation split."""
    listed = {}
    bare = {Path(file).stem: file for file in whole.bare}
    known = {stem for stems in whole.pairs.values() for stem in stems}
    for path in (folder / file for folder, files in folders.items() for file in files):
        name = _split_of(Path(path.name))
        if path.suffix == '.txt' and name and name not in listed:
            words = _read_text(root / path).split()
            names = {word if word in known else Path(word).stem for word in words}
            if names and names <= known | bare.keys():
                listed[name] = _part(whole, names, [bare[stem] for stem in names & bare.keys()])
    if {'train', 'val'} <= set(listed):
        return listed
    parts = _hold_out(sorted(known))
    notes.append(
        f'the images are in one folder: {len(parts["val"])} of them are held out for validation'
    )
    return {
        name: _part(whole, stems, whole.bare * (name == 'train')) for name, stems in parts.items()
    }


def _part(whole: Split, stems: Iterable[str], bare: list[str]) -> Split:
    pairs = {ends: [*filter(set(stems).__contains__, own)] for ends, own in whole.pairs.items()}
    return replace(whole, pairs={ends: own for ends, own in pairs.items() if own}, bare=bare)


def _count(root: Path, name: str, split: Split, sizes: list[tuple[int, int]]) -> Counter[int]:
    """Label -> number of label maps that contain it; adds the label maps' sizes."""
    import numpy as np
    from rich.progress import track

    counts: Counter[int] = Counter()
    for file in track(split.files(1), f'label maps, {name}', transient=True):
        labels = np.asarray(_open(root / split.labels / file))
        sizes.append(labels.shape[:2])
        counts.update(np.unique(labels).tolist())
    counts.pop(IGNORED, None)
    return counts


def _read_text(path: Path) -> str:
    """A text of any Windows or Unix editor."""
    content = path.read_bytes()
    try:
        return content.decode('utf-16' if content[:2] in UTF_16 else 'utf-8-sig')
    except UnicodeDecodeError:
        return content.decode('cp1252', errors='replace')


def _class_names(
    root: Path, given: str | None, labels: set[int], notes: list[str]
) -> tuple[list[str], int]:
    """The classes' names, and the label of the first one: 1 if no label map has 0."""
    last = max(labels, default=0)
    if last < 1:
        raise InputError(
            f'the label maps in {root} have no labels but 0 and {IGNORED} (ignored): write class '
            'numbers from 0 on, such as 0 for background, 1 for objects'
        )
    lists = (root / name for name in CLASS_LISTS)
    given = given or next((str(file) for file in lists if file.is_file()), None)
    names, first = [], int(0 not in labels and last > 1)
    if given is None:
        if last >= 2 * len(labels):
            raise InputError(
                f'the label maps in {root} have labels up to {last}, but only {len(labels)} '
                'different ones: write class numbers 0, 1, 2, ..., or list all names with --classes'
            )
        notes.append('the classes have no names: use --classes, or classes.txt in the folder')
        names = [f'class_{value}' for value in range(first, last + 1)]
    else:
        file = Path(given)
        names = _read_text(file).splitlines() if file.is_file() else given.split(',')
        names = [name.strip() for name in names if name.strip()]
        first = 0 if len(names) > last else first
        if len(names) + first <= last:
            option = shlex.join(['--classes', ','.join(['background', *names])])
            hint = f'; if 0 is the background, use {option}' if len(names) == last else ''
            raise InputError(
                f'{given} names {len(names)} classes, but the label maps in {root} have label '
                f'{last}: name {last + 1}, or write {IGNORED} where nothing is labeled{hint}'
            )
    if first:
        notes.append('no label map has 0: classes begin at 1 (reduce_zero_label=True)')
    return names, first
