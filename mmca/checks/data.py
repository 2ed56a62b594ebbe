"""Data sets of a config: built as the run builds them, their paths checked, read once."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.errors import InputError, warn

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict
    from mmengine.dataset import BaseDataset
    from pycocotools.coco import COCO

LOADERS = {'train': ('train_dataloader', 'val_dataloader'), 'test': ('test_dataloader',)}
ALL_LOADERS = (*LOADERS['train'], *LOADERS['test'])
EVALUATORS = {'train': 'val_evaluator', 'test': 'test_evaluator'}
DATA_ROOT = re.compile(r'\{\{\$MMCA_DATA_ROOT:[^}]*\}\}/([^\'"]*[^\'"/])')  # as configs write it
BROKEN = (AssertionError, KeyError, OSError, RuntimeError, ValueError)


@dataclass
class Split:
    """One data set of the config.

    Attributes:
        key: its place in the config, as --cfg-options writes it.
        cfg: its config.
        dataset: the data set, with its paths joined, and nothing read before it is checked.
        images: the number of images that its files list, before the data set's own filter.
        coco: what its file holds, where the evaluator asks for the same file.
    """

    key: str
    cfg: ConfigDict
    dataset: BaseDataset
    images: int = 0
    coco: COCO | None = None

    @property
    def classes(self) -> list[str]:
        """The names of its classes."""
        return list(self.dataset.metainfo['classes'])


def leaf_datasets(cfg: Config, loaders: tuple[str, ...]) -> Iterator[tuple[str, ConfigDict]]:
    """The data sets of some loaders, out of wrappers such as RepeatDataset, with their keys."""
    nodes = [(f'{loader}.dataset', cfg[loader].dataset) for loader in loaders if cfg.get(loader)]
    while nodes:
        key, node = nodes.pop(0)
        if 'dataset' in node:
            nodes.insert(0, (f'{key}.dataset', node.dataset))
        elif 'datasets' in node:
            nodes[:0] = [(f'{key}.datasets.{i}', child) for i, child in enumerate(node.datasets)]
        else:
            yield key, node


def open_splits(cfg: Config, library: str, loaders: tuple[str, ...]) -> list[Split]:
    """Build the data sets of some loaders without reading their files.

    Args:
        cfg: the config.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        loaders: keys of data loaders.

    Returns:
        The splits, without those of kinds whose rules are not known here.

    Raises:
        InputError: a data set that cannot be built, or has no class names.
    """
    opened = [_open(library, key, node) for key, node in leaf_datasets(cfg, loaders)]
    return [split for split in opened if split is not None]


def _open(library: str, key: str, cfg: ConfigDict) -> Split | None:
    from mmengine.dataset import BaseDataset

    registry = import_module(f'{library}.registry').DATASETS
    kind = registry.get(cfg.type)
    if not (isinstance(kind, type) and issubclass(kind, BaseDataset)) or cfg.get('backend_args'):
        return None
    try:
        dataset = registry.build({**copy.deepcopy(cfg), 'lazy_init': True})
    except (ValueError, AssertionError) as error:
        own_names = library == 'mmseg' and 'classes' in str(error)
        hint = '. For class names of your own use type=BaseSegDataset' if own_names else ''
        raise InputError(f'{key}: {error}{hint}') from error
    if library == 'mmpretrain' and not getattr(dataset, 'with_label', False):
        return None
    if not dataset.metainfo.get('classes') and not _in_class_folders(dataset):
        raise InputError(f'{key}: {cfg.type} has no class names; set {key}.metainfo.classes')
    return Split(key, cfg, dataset)


def _in_class_folders(dataset: BaseDataset) -> bool:
    """Whether a classification data set has one folder a class instead of a list."""
    return getattr(dataset, 'with_label', False) and not dataset.ann_file


def read(split: Split, check_infos: Callable[[list[dict]], None]) -> None:
    """Let a data set read its files, as the run would, and check what they list.

    Args:
        split: its `images` is set.
        check_infos: called with what `load_data_list` returns, before the data set filters it.

    Raises:
        InputError: from `check_infos`; or the files are broken, or nothing is left of them.
    """
    dataset = split.dataset
    load = dataset.load_data_list

    def load_and_check() -> list[dict]:
        try:
            infos = load()
        except InputError as error:
            raise InputError(f'{split.key}: {_source(split)}: {error}') from error
        split.images = len(infos)
        check_infos(infos)
        return infos

    dataset.load_data_list = load_and_check
    try:
        dataset.full_init()
    except InputError:
        raise
    except BROKEN as error:
        if split.images and not dataset.data_list:  # which mmengine cannot store
            raise InputError(
                f'{split.key}: none of the {split.images} images of {_source(split)} is left after '
                'its filter: they are too small or have no annotations of the classes; '
                f'see {split.key}.filter_cfg and metainfo.classes'
            ) from error
        kind = f'{type(error).__name__} ' if isinstance(error, KeyError) else ''
        raise InputError(f'{split.key}: {kind}{error}') from error
    finally:
        del dataset.load_data_list


def _source(split: Split) -> str:
    return split.dataset.ann_file or ', '.join(split.dataset.data_prefix.values())


def _paths(dataset: BaseDataset) -> list[str]:
    return [path for path in (dataset.ann_file, *dataset.data_prefix.values()) if path]


def check_paths(cfg: Config, splits: list[Split]) -> None:
    """Refuse data sets whose files and folders are not there; the message shows the tree."""
    for split in splits:
        missing = [path for path in _paths(split.dataset) if not os.path.exists(path)]
        if not missing:
            continue
        options = [f'{key}.data_root=DIR' for key, _ in leaf_datasets(cfg, ALL_LOADERS)]
        options += [
            f'{name}.ann_file=FILE'
            for name in EVALUATORS.values()
            if 'ann_file' in (cfg.get(name) or {})
        ]
        ways = [f'--cfg-options {" ".join(options)}']
        for tail in DATA_ROOT.findall(cfg.text):
            if (split.dataset.data_root or '').endswith(tail):
                ways.insert(0, f'set MMCA_DATA_ROOT to the folder that holds {tail}/')
                break
        layout = ' (one folder a class in each)' if _in_class_folders(split.dataset) else ''
        raise InputError(
            f'data not found: {missing[0]} ({split.key}). Put it there, or {", or ".join(ways)}. '
            f'Expected{layout}:\n{_tree(splits)}'
        )


def _tree(splits: list[Split]) -> str:
    """The files that the config names, below their roots, with a mark at those not there."""
    roots: dict[str, dict[str, None]] = {}
    for split in splits:
        root = os.path.normpath(split.dataset.data_root or '.')
        for path in _paths(split.dataset):
            roots.setdefault(root, {})[os.path.normpath(path)] = None
    lines = []
    for root, paths in roots.items():
        lines.append(f'  {root}/')
        for path in sorted(paths):
            name = os.path.relpath(path, root) if path.startswith(root + os.sep) else path
            slash = '' if Path(name).suffix else '/'
            lines.append(f'    {name}{slash}{"" if os.path.exists(path) else "   <- missing"}')
    return '\n'.join(lines)


def check_evaluator(cfg: Config, key: str, splits: list[Split]) -> None:
    """Check an evaluator's own path, which is easily forgotten when data move."""
    evaluator = cfg.get(key) or {}
    path = None if isinstance(evaluator, (list, tuple)) else evaluator.get('ann_file')
    if not path or '://' in path:
        return
    if not os.path.exists(path):
        raise InputError(f'annotations not found: {path}; set --cfg-options {key}.ann_file=FILE')
    if os.path.realpath(path) not in {os.path.realpath(s.dataset.ann_file) for s in splits}:
        warn(f'{key}.ann_file is {path}, which no data set of this run uses')
