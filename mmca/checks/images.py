"""Image files and label maps of data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from mmca.checks.labels import check_label_map
from mmca.errors import InputError, warn
from mmca.io import image_size

SAMPLES = 64  # files looked at in each data set
MAX_PROCESSES = 8
DARK = 2**14  # largest value of a 16-bit image, below which 8 bits hold too little of it
UPRIGHT = ('color', 'grayscale')  # color types that follow the EXIF orientation


def check_sample(key: str, dataset: Any) -> None:
    """Check some evenly spaced files of a data set.

    Raises:
        InputError: a file is broken or does not match its annotations.
    """
    loaders = _loaders(dataset)
    for info in sample(dataset):
        try:
            check_image(info, dataset, loaders)
        except InputError as error:
            raise InputError(
                f'{key}: {error} (--images of mmca check lists all such files)'
            ) from error
    check_presence(key, dataset, loaders)
    _warn_of_dark_images(key, dataset, loaders)


def check_presence(key: str, dataset: Any, loaders: list) -> None:
    """Look for all files of a data set; each folder is listed once.

    Raises:
        InputError: some do not exist, and training would end where it meets the first.
    """
    reader = next((step for step in loaders if _reads_local_files(step)), None)
    names = ['img_path'] if reader else []
    names += ['seg_map_path' for step in loaders if getattr(step, 'with_seg', False)]
    folders: dict[str, set[str]] = {}
    absent = []
    for index in range(len(dataset) if names else 0):
        info = dataset.get_data_info(index)
        for path in (info.get(name) for name in names):
            if not isinstance(path, str) or '://' in path:
                continue
            folder, file = os.path.split(path)
            if folder not in folders:
                folders[folder] = {*os.listdir(folder or '.')} if os.path.isdir(folder) else set()
            if file not in folders[folder] and not os.path.isfile(path):  # in another case
                absent.append(path)
    if absent:
        raise InputError(
            f'{key}: {len(absent)} files of its {len(dataset)} images do not exist, such as '
            f'{absent[0]}; add them, or remove their entries'
        )


def _warn_of_dark_images(key: str, dataset: Any, loaders: list) -> None:
    """Warn of images of 10 to 14 bits in 16, of which OpenCV keeps the upper 8."""
    from PIL import Image

    reader = next((step for step in loaders if _reads_local_files(step)), None)
    if reader is None or reader.imdecode_backend != 'cv2' or reader.color_type not in UPRIGHT:
        return
    for path in (info['img_path'] for info in sample(dataset)):
        largest = None
        with suppress(OSError, ValueError), Image.open(path) as image:  # Pillow may not know it
            largest = np.asarray(image).max() if image.mode.startswith('I;16') else None
        if largest is not None and largest < DARK:
            warn(
                f'{key}: {path} has 16 bits with values up to {largest}, and OpenCV reads value / '
                '256; scale the images to 8 bits, or training sees them nearly black'
            )
            return


def sample(dataset: Any) -> Iterator[dict]:
    """Evenly spaced entries of a data set, at most `SAMPLES`."""
    number = len(dataset)
    count = min(number, SAMPLES)
    for index in range(count):
        yield dataset.get_data_info(index * (number - 1) // max(count - 1, 1))


def check_image(info: dict, dataset: Any, loaders: list) -> None:
    """Compare an image file with its annotations: an entry of the data set and its loaders.

    Raises:
        InputError: the image or its label map is broken, or the sizes differ.
    """
    path = info.get('img_path')
    reader = next((step for step in loaders if _reads_local_files(step)), None)
    if not isinstance(path, (str, os.PathLike)) or '://' in str(path) or reader is None:
        return
    upright = reader.color_type in UPRIGHT
    size = image_size(path, upright)
    listed = info.get('width'), info.get('height')
    if None not in listed and listed != size:
        advice = 'correct width and height in the file, and the boxes if they fit that size'
        if upright and listed == image_size(path, upright=False):
            advice = (
                'its EXIF data rotates it: if the boxes refer to stored pixels, set '
                'color_type=color_ignore_orientation of LoadImageFromFile'
            )
        raise InputError(
            f'{path} is {size[0]} x {size[1]}, but its annotations say {listed[0]} x {listed[1]}; '
            f'{advice}'
        )
    map_loader = next((step for step in loaders if getattr(step, 'with_seg', False)), None)
    # In mmdet, label maps have ids of other things than the classes.
    if info.get('seg_map_path') and map_loader and hasattr(dataset, 'reduce_zero_label'):
        check_label_map(info, dataset, map_loader, size)


def check_every_image(key: str, dataset: Any) -> list[str]:
    """Decode all images, masks and label maps of a data set as training does.

    Returns:
        One line for each image that cannot be used.
    """
    from rich.console import Console
    from rich.progress import track

    # For few images, starting processes takes longer than reading.
    workers = min(MAX_PROCESSES, os.cpu_count() or 1, len(dataset) // 200)
    results = DataLoader(_Problems(dataset), batch_size=None, num_workers=workers)
    progress = track(results, key, len(dataset), console=Console(stderr=True))
    return [problem for problem in progress if problem]


class _Problems(Dataset):
    """One line for each image of a data set that cannot be used, else ''."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.loaders = _loaders(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> str:
        info = self.dataset.get_data_info(index)
        path = info.get('img_path')
        try:
            check_image(info, self.dataset, self.loaders)
            for step in self.loaders:
                info = step(info)
        except InputError as error:
            return str(error)
        except Exception as error:  # whatever a decoder raises, the file cannot be used
            return f'{path}: {type(error).__name__}: {" ".join(str(error).split())}'
        return ''


def _reads_local_files(step: Any) -> bool:
    """Whether a transform reads an image as mmcv's own class does, from a folder."""
    from mmcv.transforms import LoadImageFromFile

    return (
        getattr(type(step), 'transform', None) is LoadImageFromFile.transform
        and step.imdecode_backend in ('cv2', 'pillow')
        and not step.backend_args
        and not step.ignore_empty
    )


def _loaders(dataset: Any) -> list:
    """The transforms of a data set that read files."""
    from mmcv.transforms import LoadAnnotations, LoadImageFromFile

    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return [step for step in steps if isinstance(step, (LoadImageFromFile, LoadAnnotations))]
