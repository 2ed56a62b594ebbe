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
    """Check that all files of a data set exist, and read some of them, evenly spaced.

    Raises:
        InputError: a file is missing, broken or does not match its annotations.
    """
    files = _Files(dataset)
    files.check_presence(key)
    for info in sample(dataset):
        try:
            files.check(info)
        except InputError as error:
            raise InputError(
                f'{key}: {error} (--images of mmca check lists all such files)'
            ) from error
    for info in sample(dataset):
        if (largest := files.largest_of_dark(info)) is not None:
            warn(
                f'{key}: {info["img_path"]} has 16 bits with values up to {largest}, and OpenCV '
                'reads value / 256; scale the images to 8 bits, or training sees them nearly black'
            )
            return


def sample(dataset: Any) -> Iterator[dict]:
    """Evenly spaced entries of a data set, at most `SAMPLES`."""
    number = len(dataset)
    count = min(number, SAMPLES)
    for index in range(count):
        yield dataset.get_data_info(index * (number - 1) // max(count - 1, 1))


def check_every_image(key: str, dataset: Any) -> list[str]:
    """Decode all images, masks and label maps of a data set as training does.

    Returns:
        One line for each image that cannot be used.
    """
    from rich.console import Console
    from rich.progress import track

    # For few images, starting processes takes longer than reading.
    workers = min(MAX_PROCESSES, os.cpu_count() or 1, len(dataset) // 200)
    results = DataLoader(_Files(dataset), batch_size=None, num_workers=workers)
    progress = track(results, key, len(dataset), console=Console(stderr=True))
    return [problem for problem in progress if problem]


class _Files(Dataset):
    """The images and label maps of a data set; its items are problems, '' for none."""

    def __init__(self, dataset: Any) -> None:
        from mmcv.transforms import LoadAnnotations, LoadImageFromFile

        steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
        self.dataset = dataset
        self.loaders = [s for s in steps if isinstance(s, (LoadImageFromFile, LoadAnnotations))]
        # The loaders whose files are known: mmcv's own image loader, and one of label maps.
        self.reader = next((step for step in self.loaders if _reads_local_files(step)), None)
        self.maps = next((step for step in self.loaders if getattr(step, 'with_seg', False)), None)
        self.upright = self.reader is not None and self.reader.color_type in UPRIGHT

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> str:
        info = self.dataset.get_data_info(index)
        path = info.get('img_path')
        try:
            self.check(info)
            for step in self.loaders:
                info = step(info)
        except InputError as error:
            return str(error)
        except Exception as error:  # whatever a decoder raises, the file cannot be used
            return f'{path}: {type(error).__name__}: {" ".join(str(error).split())}'
        return ''

    def check_presence(self, key: str) -> None:
        """Refuse missing files, at which training would end; list each folder once."""
        names = ['img_path'] * bool(self.reader) + ['seg_map_path'] * bool(self.maps)
        folders: dict[str, set[str]] = {}
        absent = []
        for index in range(len(self) if names else 0):
            info = self.dataset.get_data_info(index)
            for path in filter(_is_local, (info.get(name) for name in names)):
                folder, file = os.path.split(path)
                if folder not in folders:
                    exists = os.path.isdir(folder or '.')
                    folders[folder] = {*os.listdir(folder or '.')} if exists else set()
                if file not in folders[folder] and not os.path.isfile(path):  # in another case
                    absent.append(path)
        if absent:
            raise InputError(
                f'{key}: {absent[0]} does not exist ({len(absent)} missing, {len(self)} images); '
                'add the files, or remove their entries'
            )

    def check(self, info: dict) -> None:
        """Refuse an image or label map that is broken, or of another size than annotated."""
        path = info.get('img_path')
        if self.reader is None or not _is_local(path):
            return
        size, listed = image_size(path, self.upright), (info.get('width'), info.get('height'))
        if None not in listed and listed != size:
            advice = 'correct width and height in the file, and the boxes if they fit that size'
            if self.upright and listed == image_size(path, upright=False):
                advice = (
                    'its EXIF data rotates it: if the boxes refer to stored pixels, set '
                    'color_type=color_ignore_orientation of LoadImageFromFile'
                )
            raise InputError(
                f'{path} is {size[0]} x {size[1]}, but its annotations say {listed[0]} x '
                f'{listed[1]}; {advice}'
            )
        # In mmdet, label maps have ids of other things than the classes.
        if info.get('seg_map_path') and self.maps and hasattr(self.dataset, 'reduce_zero_label'):
            check_label_map(info, self.dataset, self.maps, size)

    def largest_of_dark(self, info: dict) -> int | None:
        """The largest value of an image of 10 to 14 bits in 16; OpenCV keeps only the upper 8."""
        from PIL import Image

        if self.upright and self.reader.imdecode_backend == 'cv2':
            with suppress(OSError, ValueError), Image.open(info['img_path']) as image:
                largest = np.asarray(image).max() if image.mode.startswith('I;16') else DARK
                return largest if largest < DARK else None
        return None


def _reads_local_files(step: Any) -> bool:
    """Whether a transform reads an image as mmcv's own class does, from a folder."""
    from mmcv.transforms import LoadImageFromFile

    return (
        getattr(type(step), 'transform', None) is LoadImageFromFile.transform
        and step.imdecode_backend in ('cv2', 'pillow')
        and not step.backend_args
        and not step.ignore_empty
    )


def _is_local(path: Any) -> bool:
    return isinstance(path, (str, os.PathLike)) and '://' not in str(path)
