"""Label maps against their images and the classes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import nn

from mmca.errors import InputError

PADDING = 255  # mmseg's value for padded and ignored pixels
DEEP_MODES = ('I', 'F')  # of Pillow: more than 8 bits


def check_label_map(info: dict, dataset: Any, size: tuple[int, int]) -> None:
    """Compare a label map with its image.

    Args:
        info: an entry of one of mmseg's data sets.
        dataset: the data set.
        size: width and height of the image as training sees it.

    Raises:
        InputError: the file is missing or broken, a color image, of another size, deeper than 8
            bits, or has labels beyond the classes.
    """
    from PIL import Image

    path = info['seg_map_path']
    if not os.path.isfile(path):
        raise InputError(f'{info["img_path"]} has no label map {path}')
    try:
        with Image.open(path) as image:
            mode, own, labels = image.mode, image.size, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f'cannot read {path}: {error}; replace it') from error
    if labels.ndim != 2:
        raise InputError(f'{path} is a color image; a label map has one class number a pixel')
    if own != size:
        raise InputError(
            f'{path} is {own[0]} x {own[1]}, but {info["img_path"]} is {size[0]} x {size[1]} '
            '(upright by its EXIF data); a label map has the size of its image'
        )
    if mode.startswith(DEEP_MODES) and labels.max() > PADDING:
        raise InputError(
            f'{path} has label {labels.max():.0f}: mmseg reads 8 bits; write class numbers up to '
            f'{PADDING}'
        )
    number = len(dataset.metainfo.get('classes') or ())
    shift = int(bool(getattr(dataset, 'reduce_zero_label', False)))
    ignored = {PADDING, getattr(dataset, 'ignore_index', PADDING) + shift}
    values = set(np.unique(labels).tolist()) - ignored - ({0} if shift else set())
    beyond = [value for value in sorted(values) if value - shift >= number]
    if number and beyond and not getattr(dataset, 'label_map', None):
        raise InputError(_beyond(path, beyond[0], number, shift))


def check_batch_labels(data_batch: dict, model: nn.Module) -> None:
    """Compare the label maps of a training batch with the classes of the segmentor.

    Losses index by labels: one beyond the classes ends a GPU's process without a Python error.

    Args:
        data_batch: from the data loader, on the CPU.
        model: the segmentor.

    Raises:
        InputError: a label map has a label beyond the classes.
    """
    head = getattr(model, 'decode_head', None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    samples = data_batch.get('data_samples') or () if isinstance(data_batch, dict) else ()
    if head is None or not samples or 'gt_sem_seg' not in samples[0]:
        return
    for sample in samples:
        labels = sample.gt_sem_seg.data
        wrong = (labels >= head.num_classes) & (labels != PADDING) & (labels != head.ignore_index)
        if wrong.any():
            value = int(torch.min(labels[wrong]))
            raise InputError(_beyond(sample.metainfo.get('seg_map_path'), value, head.num_classes))


def _beyond(path: Any, value: int, number: int, shift: int = 0) -> str:
    last = f'{number} (reduce_zero_label)' if shift else number - 1
    return (
        f'{path} has label {value}, but the {number} classes end at {last}; set metainfo.classes '
        f'and num_classes, or write {PADDING} where nothing is labeled'
    )
