"""The test data set of a config, without its data, and the class names of a checkpoint."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.dataset import BaseDataset

GOLDEN_RATIO = 0.618034  # distance of hues, around the color wheel


def dataset_settings(cfg: Config) -> dict:
    """Return the settings of the test data set, inside any wrappers."""
    settings = cfg.test_dataloader.dataset
    while 'dataset' in settings or 'datasets' in settings:
        settings = settings.get('dataset') or settings['datasets'][0]
    return settings


def build_dataset(cfg: Config) -> BaseDataset:
    """Build the test data set in the current registry scope, without reading its files."""
    from mmengine.registry import DATASETS

    return DATASETS.build({**dataset_settings(cfg), 'lazy_init': True, 'pipeline': []})


def find_classes(
    meta: Mapping, dataset: BaseDataset, counts: Mapping[str, int]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Find class names and colors in a checkpoint, or else in the config's data set.

    Args:
        meta: of the checkpoint.
        dataset: from :func:`build_dataset`.
        counts: config key -> number of classes of the model's heads.

    Returns:
        Names in the order of the model's labels, and colors (K, 3), uint8, RGB; generated where
        the names come without colors.

    Raises:
        InputError: there are no names, or their number differs from the model's classes.
    """
    saved = {str(key).lower(): value for key, value in (meta.get('dataset_meta') or {}).items()}
    source = saved if saved.get('classes') else dataset.metainfo
    names = source.get('classes') or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    for key, count in counts.items():
        if count != len(names):
            first = f' ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})' if names else ''
            raise InputError(
                f'{key} is {count}, but checkpoint and config name {len(names)} classes{first}; '
                'set test_dataloader.dataset.metainfo.classes'
            )
    colors = source.get('palette')
    if not isinstance(colors, (list, tuple)) or len(colors) < len(names):
        hues = [i * GOLDEN_RATIO % 1 for i in range(len(names))]
        colors = [[255 * value for value in colorsys.hsv_to_rgb(hue, 0.8, 0.9)] for hue in hues]
    return names, np.array(colors[: len(names)], np.uint8).reshape(-1, 3)
