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

# Library -> its hook, and the attribute with the folder of the drawings.
DRAWING = {
    'mmdet': ('DetVisualizationHook', 'test_out_dir'),
    'mmpretrain': ('VisualizationHook', 'out_dir'),
}


def keep_subfolders(library: str, hook: dict) -> dict:
    """Keep the images' subfolders in the drawings: cam1/1.jpg and cam2/1.jpg stay two files.

    Args:
        library: such as 'mmdet'.
        hook: the visualization hook in a config.

    Returns:
        The config of a subclass for the library's own hook; other hooks as they are.
    """
    name, attribute = DRAWING.get(library, (None, None))
    if str(hook.get('type')).rpartition('.')[2] != name:
        return hook

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
    return dict(hook, type=f'mmca.{name}')


def _below(root: str, path: str) -> Path:
    """An image's folder relative to the root, or to the file system's if it lies elsewhere.

    Example:
        >>> _below('/data', '/data/cam1/1.jpg').as_posix(), _below('/data', '/b/1.jpg').as_posix()
        ('cam1', 'b')
    """
    folder = Path(os.path.abspath(path)).parent
    return folder.relative_to(root if folder.is_relative_to(root) else folder.anchor)
