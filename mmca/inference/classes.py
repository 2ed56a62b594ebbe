"""The class names and colors of a model, without its data."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.dataset import BaseDataset

GOLDEN_RATIO = 0.618034


def dataset_settings(cfg: Config) -> dict:
    """The settings of the data set that a config tests on, inside of wrappers.

    Args:
        cfg: the config.
    """
    settings = cfg.test_dataloader.dataset
    while 'dataset' in settings or 'datasets' in settings:
        settings = settings.get('dataset') or settings['datasets'][0]
    return settings


def dataset_of(cfg: Config) -> BaseDataset:
    """The data set that a config tests on; none of its files is read.

    Args:
        cfg: the config; the registry's scope must be its library's.
    """
    from mmengine.registry import DATASETS

    return DATASETS.build({**dataset_settings(cfg), 'lazy_init': True, 'pipeline': []})


def find_classes(
    content: Mapping, dataset: BaseDataset, counts: Mapping[str, int]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Find the class names in a checkpoint, or else in the config's data set.

    Args:
        content: of the checkpoint.
        dataset: from :func:`dataset_of`.
        counts: key -> number of classes of the model's heads.

    Returns:
        Names in the order of the model's labels, and their colors (K, 3), uint8, RGB; colors are
        made up where the names have none.

    Raises:
        InputError: there are no names, or not as many as the model has classes.
    """
    meta = content.get('meta')
    meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    meta = {str(key).lower(): value for key, value in (meta or {}).items()}
    for source in (meta, dataset.metainfo):
        names = source.get('classes')
        if names:
            names = (names,) if isinstance(names, str) else tuple(names)
            break
    else:
        raise InputError(
            'neither checkpoint nor config has class names; '
            'set test_dataloader.dataset.metainfo.classes'
        )
    for key, count in counts.items():
        if count != len(names):
            first = f'{", ".join(names[:3])}{", ..." if len(names) > 3 else ""}'
            raise InputError(
                f'{key} is {count}, but there are {len(names)} class names ({first}); '
                'set test_dataloader.dataset.metainfo.classes'
            )
    return names, _palette(source.get('palette'), len(names))


def _palette(colors: Sequence | str | None, number: int) -> np.ndarray:
    if isinstance(colors, (list, tuple)) and len(colors) >= number:
        return np.array(colors[:number], np.uint8).reshape(number, 3)
    # Hues at steps of the golden ratio are far apart for any number of classes.
    made = [colorsys.hsv_to_rgb(i * GOLDEN_RATIO % 1, 0.8, 0.9) for i in range(number)]
    return (np.array(made) * 255).astype(np.uint8)
