"""Image files and label maps of data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from mmca.checks.labels import check_label_map
from mmca.errors import InputError
from mmca.io import image_size

SAMPLES = 64  # files looked at in each data set
IN_ONE_PROCESS = 200  # images, below which starting processes takes longer than reading
MAX_PROCESSES = 8
UPRIGHT = ('color', 'grayscale')  # color types that follow the EXIF orientation


def check_sample(key: str, dataset: Any) -> None:
    """Look into some files of a data set, evenly spaced, before training.

    Args:
        key: its place in the config.
        dataset: as built.

    Raises:
        InputError: a file is broken or does not fit its annotations.
    """
    number = len(dataset)
    count = min(number, SAMPLES)
    loaders = _loaders(dataset)
    for index in range(count):
        info = dataset.get_data_info(index * (number - 1) // max(count - 1, 1))
        try:
            check_image(info, dataset, loaders)
        except InputError as error:
            raise InputError(
                f'{key}: {error} (mmca check CONFIG --images lists all such files)'
            ) from error


def check_image(info: dict, dataset: Any, loaders: list) -> None:
    """Compare an image file with what its data set says of it.

    Args:
        info: an entry of the data set.
        dataset: the data set.
        loaders: its transforms that read files.

    Raises:
        InputError: the image or its label map is broken, or the sizes differ.
    """
    path = info.get('img_path')
    reader = next((step for step in loaders if hasattr(step, 'imdecode_backend')), None)
    if not isinstance(path, (str, os.PathLike)) or '://' in str(path) or reader is None:
        return
    upright = getattr(reader, 'color_type', 'color') in UPRIGHT
    size = image_size(path, upright)
    listed = info.get('width'), info.get('height')
    if None not in listed and listed != size:
        advice = 'correct width and height in the file, and boxes and masks with them'
        if upright and listed == image_size(path, upright=False):
            advice = (
                'its EXIF data turn it: if the boxes mean stored pixels, set '
                'color_type=color_ignore_orientation of LoadImageFromFile'
            )
        raise InputError(
            f'{path} is {size[0]} x {size[1]}, but its annotations say {listed[0]} x {listed[1]}; '
            f'{advice}'
        )
    if info.get('seg_map_path') is not None:
        check_label_map(info, dataset, size)


def check_every_image(key: str, dataset: Any) -> list[str]:
    """Decode all images, masks and label maps of a data set as training does.

    Args:
        key: its place in the config, for the progress bar.
        dataset: as built.

    Returns:
        One line for each image that cannot be used.
    """
    from mmengine.utils import track_progress_rich

    few = len(dataset) < IN_ONE_PROCESS
    results = track_progress_rich(
        partial(_problem, dataset, _loaders(dataset)),
        _indices(dataset),
        task_num=len(dataset),
        nproc=1 if few else min(MAX_PROCESSES, os.cpu_count() or 1),
        chunksize=8,
        description=key,
    )
    return [problem for problem in results if problem]


def _indices(dataset: Any) -> Iterator[tuple[int]]:
    yield from ((index,) for index in range(len(dataset)))


def _problem(dataset: Any, loaders: list, index: int) -> str:
    """What is wrong with one image; '' for nothing."""
    info = dataset.get_data_info(index)
    try:
        check_image(info, dataset, loaders)
        for step in loaders:
            info = step(info)
    except Exception as error:  # whatever a decoder raises, the file cannot be used
        kind = '' if isinstance(error, InputError) else f'{info.get("img_path")}: '
        return f'{kind}{" ".join(str(error).split()) or type(error).__name__}'
    return ''


def _loaders(dataset: Any) -> list:
    """The transforms of a data set that read files."""
    from mmcv.transforms import LoadAnnotations, LoadImageFromFile

    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return [step for step in steps if isinstance(step, (LoadImageFromFile, LoadAnnotations))]
