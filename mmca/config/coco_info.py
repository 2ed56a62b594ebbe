"""Inspect a data set in COCO format: JSON files and image folders."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mmca.config.dataset_info import DatasetInfo, Split, hold_out, split_of, walk_folders
from mmca.errors import InputError

PROBES = 50  # file names looked up in each folder
MANY = 20  # JSON files in a folder; more means one file per image, not COCO
LISTS = ('images', 'annotations', 'categories')


def inspect_coco(root: Path, named: dict[str, str]) -> DatasetInfo | None:
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
        for name, part in hold_out(images).items():
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
    for folder, names in walk_folders(root):
        names = [name for name in names if name.endswith('.json')]
        for path in (folder / name for name in names if len(names) <= MANY):
            candidates.setdefault(split_of(path.relative_to(root)) or 'train', []).append(path)
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
            raise InputError(f'{paths[0]} is not a COCO file with {", ".join(LISTS)}')
        files.update(zip([split], read.items(), strict=False))
    return files


def _read(path: Path) -> dict | None:
    """The content of a COCO file, None for other JSON files."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f'cannot read {path}: {error}') from error
    if not isinstance(content, dict):
        return None
    lists = all(isinstance(content.get(key), list) for key in LISTS)
    return content if lists and content['images'] and content['categories'] else None


def _split(root: Path, path: Path, content: dict) -> Split:
    try:
        # mmdet numbers classes in the file's order.
        classes = {category['id']: str(category['name']) for category in content['categories']}
        counts = Counter(classes.get(entry.get('category_id')) for entry in content['annotations'])
        names = [str(image['file_name']) for image in content['images']]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f'{path} is malformed: images need a file_name, categories an id and a name '
            f'({type(error).__name__}: {error})'
        ) from error
    inside = path.is_relative_to(root)
    listing = path.relative_to(root).as_posix() if inside else str(path.resolve())
    objects = {name: counts[name] for name in classes.values()}
    return Split(_find_images(root, path, names), names, listing=listing, objects=objects)


def _find_images(root: Path, path: Path, names: list[str]) -> str:
    """The folder, relative to the root, that has the images of a COCO file."""
    probes = names[:: max(1, len(names) // PROBES)]
    own = split_of(path.relative_to(root) if path.is_relative_to(root) else Path(path.name))
    best, most = None, 0.0
    for folder, _ in walk_folders(root):
        split = split_of(folder.relative_to(root))
        if own and split and split != own:  # splits may share file names
            continue
        number = sum((folder / name).is_file() for name in probes)
        score = number + 0.5 * (split == own)
        if number and score > most:
            best, most = folder, score
    if best is None:
        raise InputError(f'no folder below {root} has the images of {path}, such as {names[0]}')
    return best.relative_to(root).as_posix().removeprefix('.')
