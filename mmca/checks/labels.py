"""Label maps against their images and the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from mmca.errors import InputError
from mmca.io import image_size

PADDING = 255  # mmseg's value for padded and ignored pixels
DEEP_MODES = ('I', 'F')  # of Pillow: more than 8 bits


def check_label_map(info: dict, dataset: Any, loader: Any, size: tuple[int, int]) -> None:
    """Compare a label map with its image.

    Args:
        info: an entry of one of mmseg's data sets.
        dataset: the data set.
        loader: its transform that reads label maps.
        size: width and height of the image in training.

    Raises:
        InputError: the file is broken, a color image, of another size, deeper than 8 bits, or has
            labels beyond the classes.
    """
    path = info['seg_map_path']
    try:
        labels = loader({**info, 'seg_fields': []})['gt_seg_map']
    except Exception as error:  # whatever a decoder raises
        image_size(path)  # knows what is wrong with most files
        raise InputError(f'cannot read {path}: {error}') from error
    if labels.ndim != 2:
        raise InputError(f'{path} is a color image; a label map has one class number per pixel')
    height, width = labels.shape
    if (width, height) != size:
        raise InputError(
            f'{path} is {width} x {height}, but {info["img_path"]} is {size[0]} x {size[1]} '
            '(after EXIF rotation); a label map must have the size of its image'
        )
    if type(loader).__module__.startswith('mmseg.'):
        _check_depth(path)
    ignored = PADDING, getattr(dataset, 'ignore_index', PADDING)
    values = [value for value in np.unique(labels).tolist() if value not in ignored]
    number = len(dataset.metainfo.get('classes') or ())
    if number and values and values[-1] >= max(number, 2):
        raise InputError(_beyond(info, values[-1], number))


def _check_depth(path: str) -> None:
    """Refuse labels of more than 8 bits, whose higher bits mmseg drops silently."""
    from PIL import Image

    with Image.open(path) as image:
        largest = np.asarray(image).max() if image.mode.startswith(DEEP_MODES) else 0
    if largest > PADDING:
        raise InputError(
            f'{path} has label {largest:.0f}, but mmseg reads only 8 bits; write class numbers '
            f'below {PADDING}'
        )


def check_batch_labels(data_batch: dict, model: nn.Module) -> None:
    """Compare the label maps of a training batch, on the CPU, with the classes of the segmentor.

    Losses index by labels: one beyond the classes kills a process on a GPU without a Python error.

    Raises:
        InputError: a label map has a label beyond the classes.
    """
    head = getattr(model, 'decode_head', None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    number = getattr(head, 'num_classes', None)
    samples = data_batch.get('data_samples') or () if isinstance(data_batch, dict) else ()
    if number is None or not samples or 'gt_sem_seg' not in samples[0]:
        return
    ignored = getattr(head, 'ignore_index', PADDING)
    for sample in samples:
        labels = sample.gt_sem_seg.data
        wrong = labels[(labels >= max(number, 2)) & (labels != PADDING) & (labels != ignored)]
        if wrong.numel():
            raise InputError(_beyond(sample.metainfo, int(wrong.max()), number))


def _beyond(info: dict, value: int, number: int) -> str:
    reduced = ' (after reduce_zero_label)' if info.get('reduce_zero_label') else ''
    return (
        f'{info.get("seg_map_path")} has label {value}{reduced}, but the {number} classes end at '
        f'{number - 1}; set metainfo.classes and num_classes, or write {PADDING} for '
        'unlabeled pixels'
    )
