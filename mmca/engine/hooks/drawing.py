"""Draw each test image of a detector or classifier into a separate file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mmca.checks import splits_of
from mmca.registry import HOOKS

# Class -> its library, and the attribute with the folder of the drawings.
FOLDERS = {
    'DetVisualizationHook': ('mmdet', 'test_out_dir'),
    'VisualizationHook': ('mmpretrain', 'out_dir'),
}


def register(name: str) -> str:
    """Derive a hook that keeps the images' subfolders: cam1/1.jpg and cam2/1.jpg are two drawings.

    `mmca.Runner` builds it in place of the library's, with the same arguments.

    Args:
        name: key of `FOLDERS`.

    Returns:
        The hook's type in a config.
    """
    library, attribute = FOLDERS[name]

    class Hook(getattr(import_module(f'{library}.engine.hooks'), name)):
        def before_test(self, runner: Runner) -> None:
            """Find the folder that all images share."""
            datasets = [split.dataset for split in splits_of({'test': runner.test_loop})]
            prefixes = [getattr(dataset, 'data_prefix', {}) for dataset in datasets]
            folders = [prefix.get('img') or prefix.get('img_path') or '.' for prefix in prefixes]
            self._root = os.path.commonpath(map(os.path.abspath, folders))
            if library == 'mmdet' and self.test_out_dir is not None:  # it does so for every batch
                place = os.path.join(runner.work_dir, runner.timestamp, self.test_out_dir)
                self.test_out_dir = os.path.abspath(place)

        def after_test_iter(
            self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Sequence
        ) -> None:
            """Draw the images of a batch."""
            folder = getattr(self, attribute)
            for index, sample in enumerate(outputs):
                if folder is not None:
                    below = _below(self._root, sample.img_path)
                    setattr(self, attribute, os.path.join(folder, below))
                one = {**data_batch, 'inputs': data_batch['inputs'][index : index + 1]}
                super().after_test_iter(runner, batch_idx * len(outputs) + index, one, [sample])
            setattr(self, attribute, folder)

    HOOKS.register_module(name, force=True, module=Hook)
    return f'mmca.{name}'


def _below(root: str, path: str) -> Path:
    """An image's folder relative to the root, or to the file system's if it lies elsewhere.

    Example:
        >>> _below('/data', '/data/cam1/1.jpg').as_posix(), _below('/data', '/b/1.jpg').as_posix()
        ('cam1', 'b')
    """
    folder = Path(os.path.abspath(path)).parent
    return folder.relative_to(root if folder.is_relative_to(root) else folder.anchor)
