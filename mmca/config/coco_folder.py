"""Inspect a folder with COCO JSON files and images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mmca.config.folders import SPLITS, DatasetInfo, Folders, Split, hold_out, median_size, split_of
from mmca.errors import InputError
from mmca.io import COCO_FIELDS, check_coco_fields, complete_coco

PROBES = 50  # file names of a COCO file that are looked up in each folder
MANY = 20  # JSON files in a folder; more means one file per image, not COCO


def find_coco_files(
    root: Path, folders: Folders, named: dict[str, str], faults: list[InputError]
) -> dict[str, tuple[Path, dict]]:
    """Find the COCO file of each split.

    Args:
        root: the folder.
        folders: below it.
        named: split -> file chosen by the user.
        faults: collects the errors of files that no split needs.

    Returns:
        Split -> file and content.
    """
    candidates: dict[str | None, list[Path]] = {}
    for folder, names in folders.items():
        paths = [folder / name for name in names if name.endswith('.json')]
        for path in paths if len(paths) <= MANY else ():
            candidates.setdefault(split_of(path), []).append(root / path)
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
                if content := _read_coco(path, faults):
                    read[path] = content
            except InputError as error:
                wrong.append(error)
        if len(read) > 1:
            raise InputError(
                f'{" and ".join(map(str, read))} are all candidates for {split or "train"}: choose '
                'with --train and --val, or move the others away'
            )
        if split in named and not read:
            raise wrong[0] if wrong else InputError(f'{paths[0]} is not a COCO file with objects')
        if read:
            files[split or 'train'] = read.popitem()
        elif split:
            missing += wrong
        faults += wrong
    if files and missing:
        raise missing[0]
    return files


def _read_coco(path: Path, faults: list[InputError]) -> dict | None:
    """The content of a COCO file with objects, None for other JSON files.

    Those that somebody could take for one are added to `faults`.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f'cannot read {path}: {error}') from error
    found = content if isinstance(content, dict) else {}
    lists = [found.get(key) for key in COCO_FIELDS]
    if not all(isinstance(entries, list) and entries for entries in lists):
        if lists[0] and not lists[1]:
            faults.append(InputError(f'{path} has images, but no annotations'))
        if isinstance(content, list) and 'image_id' in str(content[:1]):
            faults.append(InputError(f'{path} is a list of annotations without their images'))
        return None
    if not all(isinstance(entry, dict) for entries in lists for entry in entries):
        raise InputError(f'{path} is malformed: its entries must be JSON objects')
    try:
        check_coco_fields(content)
    except InputError as error:
        raise InputError(f'{path} is malformed: {error}') from error
    return complete_coco(content)


def inspect_coco(
    root: Path, folders: Folders, files: dict[str, tuple[Path, dict]], faults: list[InputError]
) -> DatasetInfo:
    if 'train' not in files:
        found = ', '.join(str(path) for path, _ in files.values())
        raise InputError(
            '; '.join([f'{root} has no COCO file to train on, only {found}', *map(str, faults)])
            + '; use --train'
        )
    path, content = files['train']
    size = median_size([(image['width'], image['height']) for image in content['images']])
    objects = [entry for _, file in files.values() for entry in file['annotations']]
    bare = sum(not entry.get('segmentation') for entry in objects)
    held_out = 'val' not in files
    for name, images in hold_out(content['images']).items() if held_out else ():
        ids = {image['id'] for image in images}
        kept = [entry for entry in content['annotations'] if entry['image_id'] in ids]
        files[name] = path, {**content, 'images': images, 'annotations': kept}
    splits = {name: _coco_split(root, folders, *file) for name, file in files.items()}
    notes = []
    if 0 < bare < len(objects):
        notes.append(f'{bare} of {len(objects)} objects have no mask, so only boxes are trained')
    if held_out:
        for name in ('train', 'val'):
            splits[name].listing, splits[name].content = None, json.dumps(files[name][1])
        number = len(splits['val'].names)
        notes.append(f'no validation file: {number} images of {path.name} are held out')
    classes = list(splits['train'].objects)
    return DatasetInfo(root, 'boxes' if bare else 'masks', classes, splits, size, notes)


def _coco_split(root: Path, folders: Folders, path: Path, content: dict) -> Split:
    classes = {category['id']: category['name'] for category in content['categories']}
    objects = [entry for entry in content['annotations'] if not entry['iscrowd']]
    counts = Counter(classes.get(entry['category_id']) for entry in objects)
    names = [str(image['file_name']) for image in content['images']]
    inside = path.is_relative_to(root)
    listing = path.relative_to(root) if inside else path.resolve()
    own = split_of(listing if inside else Path(path.name))
    probes = names[:: max(1, len(names) // PROBES)]
    scores = {}
    for folder in folders:
        number = sum((root / folder / name).is_file() for name in probes)
        split = split_of(folder)
        if number and (not own or split in (None, own)):  # splits may share file names
            scores[folder] = number, split == own
    if not scores:
        raise InputError(
            f'no folder below {root} has the images of {path}, such as {names[0]}; its file_name '
            'must be a path from one of the folders, in the same spelling'
        )
    images = max(scores, key=scores.get).as_posix().removeprefix('.')
    objects = {name: counts[name] for name in classes.values()}
    return Split(images, names, listing=listing.as_posix(), objects=objects)
