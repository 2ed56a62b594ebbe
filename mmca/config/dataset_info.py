"""Inspect the folder of a data set: format, splits, classes, image size."""

from __future__ import annotations

from pathlib import Path

from mmca.config.coco_folder import find_coco_files, inspect_coco
from mmca.config.folders import SPLITS, DatasetInfo, list_files
from mmca.config.label_map_folder import inspect_label_maps, match_folders
from mmca.errors import InputError


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
    folders = list_files(root)
    named = {split: file for split, file in (('train', train), ('val', val)) if file}
    faults: list[InputError] = []
    if files := find_coco_files(root, folders, named, faults):
        info = inspect_coco(root, folders, files, faults)
    elif splits := match_folders(root, folders):
        info = inspect_label_maps(root, folders, splits, classes)
    elif faults:
        raise faults[0]
    else:
        raise InputError(
            f'{root} has neither a COCO file with images, annotations and categories, nor images '
            'with label maps of the same name; docs/own_data.md shows how to convert YOLO, VOC '
            'and labelme files'
        )
    info.notes += [f'left out: {fault}' for fault in faults]
    info.splits = {name: info.splits[name] for name in SPLITS if name in info.splits}
    return info
