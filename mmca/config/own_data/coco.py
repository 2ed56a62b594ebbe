"""Data sets in COCO's format: JSON files, and the folders with their images."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

from mmca.config.own_data.found import (
    SPLITS,
    Found,
    Split,
    folders,
    hold_out,
    is_image,
    split_of,
)
from mmca.errors import InputError

PROBED = 50  # file names by which the folder of images is found
MANY = 20  # JSON files in one folder: one an image
LISTS = ('images', 'annotations', 'categories')


def find_coco(root: Path, named: dict[str, str], config: Path) -> Found | None:
    """Look for a data set in COCO's format.

    Args:
        root: its folder.
        named: split -> file, for those that the user names.
        config: the config that will be written; new lists of images go beside it.

    Returns:
        What is there, or None.

    Raises:
        InputError: a file cannot be read, or it is unclear which one or which images to take.
    """
    contents = {split: _read(_existing(root, file)) for split, file in named.items()}
    files = {split: _existing(root, file) for split, file in named.items()}
    for split, file in _candidates(root).items():
        if split not in files:
            content = _read(file)
            if content is not None and (split != 'test' or content['annotations']):
                files[split], contents[split] = file, content
    for split, content in contents.items():
        if content is None:
            raise InputError(
                f'{files[split]} is no COCO file: it needs the lists images, annotations and '
                'categories'
            )
    if not files:
        return None
    if 'train' not in files:
        raise InputError(
            f'{root} has no COCO file to train with, only {", ".join(map(str, files.values()))}; '
            'name it with --train'
        )
    names = list(_categories(contents['train']).values())
    task = 'masks' if _has_masks(contents['train']) else 'boxes'
    splits = {
        split: _split(root, file, contents[split], files[split].relative_to(root).as_posix())
        for split, file in files.items()
    }
    found = Found(root, task, names, splits, _sizes(contents['train']))
    if 'val' not in splits:
        _hold_out(found, contents['train'], config)
    found.splits = {name: found.splits[name] for name in SPLITS if name in found.splits}
    return found


def _existing(root: Path, file: str) -> Path:
    for path in (root / file, Path(file)):
        if path.is_file():
            return path
    raise InputError(f'no such file: {root / file}')


def _candidates(root: Path) -> dict[str, Path]:
    """Split -> the file that may list it."""
    found: dict[str, list[Path]] = {}
    for folder, names in folders(root):
        names = [name for name in names if name.endswith('.json')]
        if len(names) > MANY:
            continue
        for name in names:
            path = folder / name
            found.setdefault(split_of(path.relative_to(root)) or 'train', []).append(path)
    chosen = {}
    for split, paths in found.items():
        # Of COCO's own files, those of objects; then files that hold objects at all.
        best = [path for path in paths if path.name.startswith('instances_')] or paths
        best = best if len(best) == 1 else [path for path in best if _read(path) is not None]
        if len(best) > 1:
            raise InputError(
                f'{" and ".join(map(str, best[:3]))} could all be used for {split}: name one with '
                f'--{split}'
            )
        if best:
            chosen[split] = best[0]
    return chosen


def _read(path: Path) -> dict | None:
    """What a file holds, None if it is no COCO file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f'cannot read {path}: {error}') from error
    lists = content if isinstance(content, dict) else {}
    if not all(isinstance(lists.get(key), list) for key in LISTS):
        return None
    return content if lists['images'] and lists['categories'] else None


def _categories(content: dict) -> dict[Hashable, str]:
    """Id -> name, in the file's order, by which mmdet numbers the classes."""
    try:
        return {category['id']: str(category['name']) for category in content['categories']}
    except (KeyError, TypeError) as error:
        raise InputError('categories of COCO files need an id and a name each') from error


def _has_masks(content: dict) -> bool:
    return any(entry.get('segmentation') for entry in content['annotations'])


def _sizes(content: dict) -> list[tuple[int, int]]:
    sizes = [(image.get('width', 0), image.get('height', 0)) for image in content['images']]
    return [size for size in sizes if min(size) > 0] or [(640, 480)]


def _split(root: Path, file: Path, content: dict, listing: str) -> Split:
    folder = _images_of(root, file, [str(image.get('file_name')) for image in content['images']])
    return Split(folder, None, listing, len(content['images']), _objects(content))


def _objects(content: dict) -> dict[str, int]:
    names = _categories(content)
    counts = Counter(names.get(entry.get('category_id')) for entry in content['annotations'])
    return {name: counts[name] for name in names.values()}


def _images_of(root: Path, file: Path, names: list[str]) -> str:
    """The folder, below `root`, that holds the images of a file."""
    step = max(1, len(names) // PROBED)
    probed = names[::step]
    own = split_of(file.relative_to(root))
    best, most = None, 0
    for folder, _ in folders(root):
        split = split_of(folder.relative_to(root))
        if own and split and split != own:  # where the same names may occur
            continue
        number = sum((folder / name).is_file() for name in probed)
        near = len(os.path.commonpath([folder, file]).split(os.sep)) / 100
        score = number + 0.5 * (split == own) + near
        if number and score > most:
            best, most = folder, score
    if best is None:
        raise InputError(
            f'no folder below {root} has the images that {file} lists, such as {names[0]}'
        )
    return best.relative_to(root).as_posix().removeprefix('.')


def _hold_out(found: Found, content: dict, config: Path) -> None:
    """Divide the images of the only file."""
    whole = found.splits['train']
    for split, ids in zip(
        ('train', 'val'), hold_out(image['id'] for image in content['images']), strict=True
    ):
        kept = set(ids)
        part = {
            **content,
            'images': [image for image in content['images'] if image['id'] in kept],
            'annotations': [e for e in content['annotations'] if e.get('image_id') in kept],
        }
        listing = config.with_name(f'{config.stem}_{split}.json').resolve()
        found.splits[split] = Split(
            whole.images, None, str(listing), len(ids), _objects(part), json.dumps(part)
        )
    found.notes.append(
        f'{whole.listing} is the only file: {found.splits["val"].number} of its images are held '
        'out for validation'
    )


def describe_others(root: Path) -> str:
    """The end of a message on a folder without a known format: what it seems to be."""
    kinds = Counter()
    for folder, names in folders(root):
        suffixes = Counter(Path(name).suffix.lower() for name in names)
        images = sum(map(is_image, names))
        if suffixes['.xml'] > 1:
            kinds['VOC'] += suffixes['.xml']
        if suffixes['.txt'] > 1 and (folder.name == 'labels' or folder.parent.name == 'labels'):
            kinds['YOLO'] += suffixes['.txt']
        if suffixes['.json'] > MANY or (images and suffixes['.json'] == images):
            kinds['labelme'] += suffixes['.json']
    if not kinds:
        return ''
    (kind, _), *_ = kinds.most_common(1)
    return f'; it looks like {kind} files: docs/own_data.md has the command that converts them'
