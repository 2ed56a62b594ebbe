"""Checks before anything starts: flags, data, classes, checkpoint.

Each failure is an `InputError` that names the value and the mend; what only looks wrong is a
warning on stderr. Data sets are built without their images, so that paths, class names and label
rules are those which training will use.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from config_file import parse_options
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmengine.runner import find_latest_checkpoint

from mmca.checkpoint import MIN_SHARE, match, read_state_dict
from mmca.errors import InputError

LOADERS = {'train': ('train_dataloader', 'val_dataloader'), 'test': ('test_dataloader',)}
ALL_LOADERS = (*LOADERS['train'], *LOADERS['test'])
EVALUATORS = {'train': 'val_evaluator', 'test': 'test_evaluator'}
PICKLES = ('.pkl', '.pickle')
TEXTS = ('.json', '.yaml', '.yml')
MAX_SAMPLES = 64  # files looked at per data set
DATA_ROOT = re.compile(r'\{\{\$MMCA_DATA_ROOT:[^}]*\}\}/([^\'"]*[^\'"/])')  # as configs write it


@dataclass(frozen=True)
class Split:
    """One data set of the config.

    Attributes:
        key: its place in the config, as --cfg-options writes it.
        cfg: its config.
        dataset: the data set with its paths joined and nothing read yet.
    """

    key: str
    cfg: ConfigDict
    dataset: BaseDataset


def check_flags(args: Namespace, cfg: Config, library: str) -> None:
    """Refuse flags that the library's tool would answer with a traceback.

    Args:
        args: the parsed command line.
        cfg: the config with its options merged.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.

    Raises:
        InputError: a flag that cannot work with this config or machine.
    """
    flags = vars(args)
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise InputError(
            '--launcher pytorch needs its launcher: use tools/dist_train.sh or tools/dist_test.sh'
        )
    if flags.get('amp') and get_device() in ('cpu', 'mps'):
        raise InputError(f'--amp needs a GPU and the device here is {get_device()}: drop the flag')
    if flags.get('auto_scale_lr') and not {'enable', 'base_batch_size'} <= set(
        cfg.get('auto_scale_lr') or {}
    ):
        raise InputError(
            '--auto-scale-lr: the config has none; '
            'add auto_scale_lr = dict(enable=False, base_batch_size=16)'
        )
    if flags.get('tta'):
        _check_tta(cfg, library)
    if flags.get('no_validate') and library != 'mmpretrain':
        raise InputError(
            f'--no-validate: {library} has no such flag; '
            'use --cfg-options val_cfg=None val_dataloader=None val_evaluator=None'
        )
    if library == 'mmpretrain' and flags.get('out_item') and not args.out:
        raise InputError(f'--out-item {args.out_item} needs --out FILE')
    if library != 'mmseg' and flags.get('out'):
        metrics = library == 'mmpretrain' and args.out_item == 'metrics'
        suffixes = (*PICKLES, *TEXTS) if metrics else PICKLES
        if Path(args.out).suffix not in suffixes:
            raise InputError(
                f'--out {args.out}: the name must end in {".json" if metrics else ".pkl"}'
            )


def check_input(tool: str, args: Namespace, cfg: Config, library: str, work_dir: str) -> None:
    """Check data, classes and checkpoint, and say in one line what will run.

    Args:
        tool: 'train' or 'test'.
        args: the parsed command line.
        cfg: the config with its options merged.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        work_dir: where logs and checkpoints go.

    Raises:
        InputError: whatever the user has to mend first.
    """
    loaders = LOADERS[tool][:1] if vars(args).get('no_validate') else LOADERS[tool]
    with DefaultScope.overwrite_default_scope(library):
        opened = [_open(library, key, node) for key, node in _datasets(cfg, loaders)]
        splits = [split for split in opened if split is not None]
        _check_paths(cfg, splits)
        _check_evaluator(cfg, EVALUATORS[tool], splits)
        heads = list(_heads(cfg.model, library))
        if library == 'mmpretrain':
            images = _check_classification(splits, heads)
        else:
            images = {split.key: _check_annotations(cfg, split, heads) for split in splits}
        checkpoint = _checkpoint(tool, args, cfg, work_dir)
        if checkpoint is not None and '://' not in checkpoint:
            _check_checkpoint(cfg, checkpoint)
    first = LOADERS[tool][0]
    count = sum(number for key, number in images.items() if key.startswith(first))
    classes = next((len(split.dataset.metainfo['classes']) for split in splits), 'unknown')
    print(
        f'{library} {tool}: {args.config}, work dir {work_dir}, {count} {tool} images, '
        f'{classes} classes',
        flush=True,
    )


def _warn(message: str) -> None:
    print(f'warning: {message}', file=sys.stderr, flush=True)


def _check_tta(cfg: Config, library: str) -> None:
    if library == 'mmseg':
        absent = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
        if absent:
            raise InputError(f'--tta: the config has no {" and no ".join(absent)}; drop the flag')
    elif 'tta_model' not in cfg and (cfg.model.get('roi_head') or cfg.model).get('mask_head'):
        raise InputError(
            "--tta: mmdet's test-time augmentation has no masks, and the config no tta_model "
            'of its own; drop the flag'
        )


def _datasets(cfg: Config, loaders: tuple[str, ...]) -> Iterator[tuple[str, ConfigDict]]:
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


def _open(library: str, key: str, cfg: ConfigDict) -> Split | None:
    """Build a data set without reading its files; None for kinds whose rules are not known here."""
    registry = import_module(f'{library}.registry').DATASETS
    kind = registry.get(cfg.type)
    if not (isinstance(kind, type) and issubclass(kind, BaseDataset)) or cfg.get('backend_args'):
        return None
    try:
        dataset = registry.build({**copy.deepcopy(cfg), 'pipeline': [], 'lazy_init': True})
    except (ValueError, AssertionError) as error:
        hint = '. For class names of your own use type=BaseSegDataset' if library == 'mmseg' else ''
        raise InputError(f'{key}: {error}{hint}') from error
    if library == 'mmpretrain' and not getattr(dataset, 'with_label', False):
        return None
    if not dataset.metainfo.get('classes') and not _in_class_folders(dataset):
        raise InputError(f'{key}: {cfg.type} has no class names; set {key}.metainfo.classes')
    return Split(key, cfg, dataset)


def _in_class_folders(dataset: BaseDataset) -> bool:
    """Whether a classification data set has one folder a class instead of a list."""
    return getattr(dataset, 'with_label', False) and not dataset.ann_file


def _paths(dataset: BaseDataset) -> list[str]:
    return [path for path in (dataset.ann_file, *dataset.data_prefix.values()) if path]


def _check_paths(cfg: Config, splits: list[Split]) -> None:
    for split in splits:
        missing = [path for path in _paths(split.dataset) if not os.path.exists(path)]
        if not missing:
            continue
        options = [f'{key}.data_root=DIR' for key, _ in _datasets(cfg, ALL_LOADERS)]
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


def _check_evaluator(cfg: Config, key: str, splits: list[Split]) -> None:
    """An evaluator has a path of its own, which is easily forgotten when data move."""
    evaluator = cfg.get(key) or {}
    path = None if isinstance(evaluator, (list, tuple)) else evaluator.get('ann_file')
    if not path or '://' in path:
        return
    if not os.path.exists(path):
        raise InputError(f'annotations not found: {path}; set --cfg-options {key}.ann_file=FILE')
    if os.path.realpath(path) not in {os.path.realpath(s.dataset.ann_file) for s in splits}:
        _warn(f'{key}.ann_file is {path}, which no data set of this run uses')


def _heads(model: ConfigDict, library: str) -> Iterator[tuple[str, int]]:
    """What has the number of classes, heads above all, as (key of num_classes, its value)."""
    if library == 'mmdet':
        places = [('model.roi_head', model['roi_head'])] if 'roi_head' in model else []
        places.append(('model', model))
        names = ('bbox_head', 'mask_head')
    elif library == 'mmseg':
        places, names = [('model', model)], ('decode_head', 'auxiliary_head')
    else:
        places, names = [('model', model)], ('head', 'data_preprocessor')
    for place, node in places:
        for name in names:
            heads = node.get(name)
            many = isinstance(heads, (list, tuple))
            for index, head in enumerate(heads if many else [heads or {}]):
                if 'num_classes' in head:
                    key = f'{place}.{name}.{index}' if many else f'{place}.{name}'
                    yield f'{key}.num_classes', head['num_classes']


def _check_annotations(cfg: Config, split: Split, heads: list[tuple[str, int]]) -> int:
    """Compare class names, heads and annotations of one data set.

    Returns:
        The number of its images.
    """
    if hasattr(split.dataset, 'COCOAPI'):
        return _check_coco(cfg, split, heads)
    classes = split.dataset.metainfo['classes']
    _check_heads(split, heads)
    infos = split.dataset.load_data_list()
    if not infos:
        folders = ', '.join(split.dataset.data_prefix.values())
        raise InputError(f'{split.key}: no images found in {folders}')
    if 'seg_map_path' in infos[0]:
        _check_label_maps(split, infos, len(classes))
    return len(infos)


def _check_classification(splits: list[Split], heads: list[tuple[str, int]]) -> dict[str, int]:
    """Compare the classes of classification data sets with each other and with the heads.

    Returns:
        The number of images in each.
    """
    infos = {split.key: _load_labels(split) for split in splits}
    for split in splits[1:]:
        # Labels count the class names in their order, which must be one.
        first, other = (set(s.dataset.metainfo['classes']) for s in (splits[0], split))
        odd = sorted(first ^ other)
        if odd:
            raise InputError(
                f'{splits[0].key} and {split.key} have different classes: only one of them has '
                f'{", ".join(odd[:8])}{", ..." if len(odd) > 8 else ""}'
            )
    for split in splits:
        _check_heads(split, heads)
    return {key: len(items) for key, items in infos.items()}


def _load_labels(split: Split) -> list[dict]:
    """The images of a classification data set with their labels; folders name its classes."""
    dataset = split.dataset
    try:
        infos = dataset.load_data_list()
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(f'{split.key}: {error}') from error
    number = len(dataset.metainfo['classes'])
    for info in infos:
        if not 0 <= info['gt_label'] < number:
            raise InputError(
                f'{split.key}: {dataset.ann_file} gives {info["img_path"]} the label '
                f'{info["gt_label"]}, but {number} classes end at {number - 1}'
            )
    for info in _sample(infos):
        if not os.path.exists(info['img_path']):
            raise InputError(
                f'{split.key}: {dataset.ann_file} lists an image that is not there: '
                f'{info["img_path"]}'
            )
    return infos


def _check_heads(split: Split, heads: list[tuple[str, int]]) -> None:
    number = len(split.dataset.metainfo['classes'])
    wrong = [f'{key}={value}' for key, value in heads if value != number]
    if wrong:
        options = ' '.join(f'{key}={number}' for key, _ in heads)
        raise InputError(
            f'{split.key} has {number} classes, but {", ".join(wrong)}. '
            f'For {number} classes: --cfg-options {options}'
        )


def _check_coco(cfg: Config, split: Split, heads: list[tuple[str, int]]) -> int:
    path = split.dataset.ann_file
    try:
        text = Path(path).read_text(encoding='utf-8')
        names = [category['name'] for category in _coco_list(text, 'categories')]
        images = _coco_list(text, 'images')
    except (ValueError, KeyError) as error:
        raise InputError(f'{split.key}: {path} is no COCO annotation file: {error}') from error
    classes = list(split.dataset.metainfo['classes'])
    absent = [name for name in classes if name not in names]
    if absent:
        shown = ', '.join(absent[:8]) + (', ...' if len(absent) > 8 else '')
        raise InputError(
            f'{split.key}: {len(absent)} of the {len(classes)} class names of the config are not '
            f'among the {len(names)} categories of {path}: {shown}. '
            f'{_use_names(names, cfg, heads)}'
        )
    _check_heads(split, heads)
    if [name for name in names if name in classes] != classes:
        _warn(
            f'{path} has the classes in another order than {split.key}.metainfo.classes: '
            "mmdet counts labels in the file's order, the names in its output will be wrong"
        )
    extra = [name for name in names if name not in classes]
    if extra:
        _warn(
            f'{split.key}: {len(extra)} categories of {path} are not used: '
            f'{", ".join(extra[:8])}{", ..." if len(extra) > 8 else ""}'
        )
    if not images:
        raise InputError(f'{split.key}: {path} lists no images')
    folder = split.dataset.data_prefix.get('img', '')
    for image in _sample(images):
        file = os.path.join(folder, image.get('file_name', ''))
        if not os.path.exists(file):
            raise InputError(f'{split.key}: {path} lists an image that is not there: {file}')
    return len(images)


def _coco_list(text: str, key: str) -> list[dict]:
    """The list of objects under a key, without parsing the annotations (0.4 GB in COCO).

    Raises:
        ValueError: no such list, or broken JSON in it.
    """
    for hit in re.finditer(rf'"{key}"\s*:\s*(?=\[)', text):
        items, _ = json.JSONDecoder().raw_decode(text, hit.end())
        if all(isinstance(item, dict) for item in items):
            return items
    raise ValueError(f'it has no list {key!r}')


def _use_names(names: list[str], cfg: Config, heads: list[tuple[str, int]]) -> str:
    """How to train on the categories of a file."""
    counts = ' '.join(f'{key}={len(names)}' for key, _ in heads)
    typed = repr(tuple(names)).replace(', ', ',')
    # Blanks, commas and digits do not survive --cfg-options, nor quotes the shell.
    if '"' in typed or parse_options([f'names={typed}'])['names'] != tuple(names):
        return (
            f"To use the file's names, set metainfo=dict(classes={tuple(names)}) for each data set "
            f'in a config, and {counts}'
        )
    keys = [key for key, _ in _datasets(cfg, ALL_LOADERS)]
    metainfo = ' '.join(f'{key}.metainfo.classes="{typed}"' for key in keys)
    return f"To use the file's names: --cfg-options {metainfo} {counts}"


def _check_label_maps(split: Split, infos: list[dict], number: int) -> None:
    """Read some label maps as training does and look for labels that no class has."""
    steps = [
        step
        for step in split.cfg.get('pipeline', [])
        if str(step.get('type')).split('.')[-1] == 'LoadAnnotations'
    ]
    if not steps:
        return
    load = TRANSFORMS.build(steps[0])
    for info in _sample(infos):
        path = info['seg_map_path']
        if not os.path.exists(path):
            raise InputError(f'{split.key}: no label map {path} for {info["img_path"]}')
        try:
            labels = load(info)['gt_seg_map']
        except OSError as error:
            raise InputError(f'{split.key}: cannot read {path}: {error}') from error
        if labels.ndim != 2:
            raise InputError(
                f'{split.key}: {path} is a colour picture; a label map has one class number a pixel'
            )
        found = np.unique(labels)
        beyond = found[(found >= number) & (found != split.dataset.ignore_index)]
        if beyond.size:
            rule = 'after' if split.dataset.reduce_zero_label else 'without'
            raise InputError(
                f'{split.key}: {path} has label {beyond[0]} ({rule} reduce_zero_label), '
                f'but {number} classes end at {number - 1}; '
                f'set metainfo.classes and num_classes, or {split.key}.reduce_zero_label'
            )


def _sample(items: list[dict]) -> list[dict]:
    count = min(len(items), MAX_SAMPLES)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).astype(int)]


def _checkpoint(tool: str, args: Namespace, cfg: Config, work_dir: str) -> str | None:
    """The checkpoint that this run will read, if any."""
    if tool == 'test':
        return args.checkpoint
    if args.resume not in (None, 'auto'):
        return args.resume
    if args.resume == 'auto' or (cfg.get('resume') and not cfg.get('load_from')):
        last = os.path.join(work_dir, 'last_checkpoint')
        if not os.path.isfile(last):
            _warn(f'--resume: no checkpoint in {work_dir}, training starts from the beginning')
            return None
        return find_latest_checkpoint(work_dir)
    return cfg.get('load_from')


def _check_checkpoint(cfg: Config, path: str) -> None:
    state_dict = read_state_dict(path)
    report = match(state_dict, MODELS.build(copy.deepcopy(cfg.model)))
    if report.share < MIN_SHARE:
        raise InputError(
            f'{path} is of another model: {report.counts}; fewer than {MIN_SHARE:.0%} of the '
            "model's tensors are in it. A backbone alone goes to "
            'model.backbone.init_cfg, not here'
        )
    absent = [*report.missing, *report.mismatched]
    if absent:
        _warn(
            f'{path}: {report.counts}; not loaded: {", ".join(absent[:4])}'
            f'{", ..." if len(absent) > 4 else ""}'
        )
