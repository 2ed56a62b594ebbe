"""Draw each test image of a detector into a separate file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.engine.hooks import DetVisualizationHook as MMDetVisualizationHook
from mmengine.runner import Runner

from mmca.checks import splits_of
from mmca.registry import HOOKS


@HOOKS.register_module()
class DetVisualizationHook(MMDetVisualizationHook):
    """mmdet's hook, with the images' subfolders: cam1/1.jpg and cam2/1.jpg are two drawings.

    `mmca.Runner` builds it in place of mmdet's, with the same arguments.
    """

    def before_test(self, runner: Runner) -> None:
        """Find the folder that all images share."""
        datasets = [split.dataset for split in splits_of({'test': runner.test_loop})]
        prefixes = [getattr(dataset, 'data_prefix', {}) for dataset in datasets]
        folders = [os.path.abspath(prefix.get('img') or '.') for prefix in prefixes]
        self._root = os.path.commonpath(folders)
        if self.test_out_dir is not None:  # mmdet does so for every batch
            self.test_out_dir = os.path.join(runner.work_dir, runner.timestamp, self.test_out_dir)
            self.test_out_dir = os.path.abspath(self.test_out_dir)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Sequence
    ) -> None:
        """Draw the images of a batch."""
        folder = self.test_out_dir
        for sample in outputs:
            if folder is not None:
                self.test_out_dir = os.path.join(folder, _below(self._root, sample.img_path))
            super().after_test_iter(runner, batch_idx, data_batch, [sample])
        self.test_out_dir = folder


def _below(root: str, path: str) -> Path:
    """An image's folder relative to the root, or to the file system's if it lies elsewhere.

    Example:
        >>> _below('/data', '/data/cam1/1.jpg').as_posix(), _below('/data', '/b/1.jpg').as_posix()
        ('cam1', 'b')
    """
    folder = Path(os.path.abspath(path)).parent
    return folder.relative_to(root if folder.is_relative_to(root) else folder.anchor)
