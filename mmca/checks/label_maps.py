"""Label maps against their images and the classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmca.errors import InputError
from mmca.checks.images import Header, explain, read_header

PADDED = 255  # mmseg's own value for what it pads and ignores
DEEP_MODES = ('I', 'F')


@dataclass(frozen=True)
class Classes:
    """What the labels of a data set mean.

    Attributes:
        number: of classes.
        ignored: the label that counts as none, besides 255.
        reduced: whether 1 is subtracted and 0 ignored.
    """

    number: int
    ignored: int
    reduced: bool

    def check(self, labels: np.ndarray, path: str) -> None:
        """Refuse labels beyond the classes.

        Args:
            labels: (H, W), integers, as training reads them.
            path: of the label map.

        Raises:
            InputError: there is one; the message has its value and how often it occurs.
        """
        beyond = labels[(labels >= self.number) & (labels != PADDED) & (labels != self.ignored)]
        if beyond.size:
            rule = 'after' if self.reduced else 'without'
            values, counts = np.unique(beyond, return_counts=True)
            others = f' and {len(values) - 1} other labels beyond' if len(values) > 1 else ''
            raise InputError(
                f'{path} has label {values[0]} in {counts[0]} of its {labels.size} pixels{others} '
                f'({rule} reduce_zero_label), but {self.number} classes end at {self.number - 1}; '
                f'set metainfo.classes and num_classes, or reduce_zero_label of the data set, or '
                f'write {PADDED} where nothing is labeled'
            )


def read_label_map(
    info: dict, load: Callable[[dict], dict], classes: Classes, header: Header | None
) -> None:
    """Read a label map as training does and compare it with its image and the classes.

    Args:
        info: an entry of the data set.
        load: mmseg's transform that reads label maps.
        classes: of the data set.
        header: the image's, None where it is not known.

    Raises:
        InputError: the first thing that is wrong with it.
    """
    path = info['seg_map_path']
    if not os.path.exists(path):
        raise InputError(f'no label map {path} for {info["img_path"]}')
    try:
        check_depth(path)
        labels = load({**info, 'seg_fields': []})['gt_seg_map']
    except InputError:
        raise
    except Exception as error:  # of whichever decoder the pipeline names
        raise InputError(f'cannot read {path}: {explain(path, error)}') from error
    check_labels(labels, info, classes, header.seen if header else labels.shape[1::-1])


def check_labels(labels: np.ndarray, info: dict, classes: Classes, size: tuple[int, int]) -> None:
    """Compare a label map with its image and the classes.

    Args:
        labels: (H, W), integers, as training reads them.
        info: an entry of the data set, with the paths.
        classes: of the data set.
        size: width and height of the image, as training sees it.

    Raises:
        InputError: it is a color image, or of another size, or has labels beyond the classes.
    """
    path, image = info['seg_map_path'], info['img_path']
    if labels.ndim != 2:
        raise InputError(f'{path} is a color image; a label map has one class number a pixel')
    own = labels.shape[::-1]
    if own != size:
        text = f'{path} is {own[0]} x {own[1]}, but {image} is {size[0]} x {size[1]}'
        header = read_header(image)
        if header is not None and own == header.stored != header.seen:
            raise InputError(
                f'{text} after its EXIF orientation, which label maps do not follow; '
                'set color_type=color_ignore_orientation of LoadImageFromFile, or turn the map'
            )
        raise InputError(f'{text}; write the label map at the size of its image')
    classes.check(labels, path)


def check_depth(path: str) -> None:
    """Refuse label maps with values beyond 8 bits, which mmseg would cut off.

    Args:
        path: of the label map.

    Raises:
        InputError: it has some.
    """
    with Image.open(path) as image:
        if not image.mode.startswith(DEEP_MODES):
            return
        values = np.asarray(image)
    beyond = values[values > PADDED]
    if beyond.size:
        raise InputError(
            f'{path} has label {beyond.min():.0f}, and labels above {PADDED} in {beyond.size} of '
            f'its {values.size} pixels: mmseg reads 8 bits; write class numbers up to {PADDED}'
        )
