"""Write configs that inherit from shipped ones."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from mmca.config.adaptation import Adaptation
from mmca.config.folders import DatasetInfo
from mmca.config.models import channel_keys, class_counts
from mmca.config.reader import read_config
from mmca.config.recipe import Recipe
from mmca.config.shipped import config_root, find_config
from mmca.errors import InputError
from mmca.io import atomic_write

VALIDATIONS = 3  # per training
WARM_UP = 50  # iterations, at most a tenth of the training
LOGS = 40  # log lines per training, at least
MAX_INTERVAL = 50  # iterations between log lines
STYLE = '{based_on_style: pep8, column_limit: 100, split_before_first_argument: true}'
# mmengine evaluates `_base_` as it reads a config, so the base is found wherever mmca is installed.
BASE = "_base_ = __import__('mmca').find_config({!r})\n"


class Name(str):
    """Code for a config, such as a variable's name."""

    __repr__ = str.__str__


def write(info: DatasetInfo, recipe: Recipe, path: str | Path) -> list[Path]:
    """Write a config for a data set, and listings of the splits that were held out.

    Args:
        info: the data set; its splits receive the paths of the listings.
        recipe: what to train.
        path: the new config, FILE.py; listings are written beside it.

    Returns:
        The written files.

    Raises:
        InputError: a file exists already or cannot be written.
    """
    path = Path(path)
    files = {}
    for name, split in info.splits.items():
        if split.content is not None:
            file = path.with_name(f'{path.stem}_{name}.json').resolve()
            files[file], split.listing = split.content, str(file)
        for index, (ends, stems) in enumerate(() if split.whole else split.pairs.items()):
            file = path.with_name(f'{path.stem}_{name}{index or ""}.txt').resolve()
            files[file] = ''.join(f'{stem}\n' for stem in stems)
            split.lists[ends] = str(file)
    files[path] = _config_text(info, recipe)
    return write_new(files)


def write_starter(name: str, path: str | Path) -> list[Path]:
    """Write a short config that inherits from the shipped config `name`, for editing."""
    file, root = Path(find_config(name)).resolve(), config_root().resolve()
    if not file.is_relative_to(root):
        raise InputError(f'{name} is not a shipped config; run mmca config --list')
    cfg = read_config(name)
    text = (
        f'{BASE.format(file.relative_to(root).with_suffix("").as_posix())}\n'
        f'# These values replace the base; `mmca config {path} --print` shows the result.\n'
        f'train_dataloader = dict(batch_size={cfg.train_dataloader.batch_size})\n'
        f'optim_wrapper = dict(optimizer=dict(lr={cfg.optim_wrapper.optimizer.lr}))\n'
    )
    return write_new({Path(path): text})


def write_adapted(base: str, adaptation: Adaptation, path: str | Path) -> list[Path]:
    """Write a config that puts another backbone into `base`, a file or name."""
    inherited = f'_base_ = {os.path.relpath(base, Path(path).parent)!r}\n'
    text = ''.join(f'# {name}: {reason}\n' for name, reason in adaptation.reasons.items())
    text += inherited if Path(base).is_file() else BASE.format(base)
    return write_new({Path(path): f'{text}\n{_code(adaptation.changes)}'})


def write_new(files: Mapping[Path, str]) -> list[Path]:
    """Write new text files (path -> text), all or none, and return the paths."""
    for path in files:
        if path.exists():
            raise InputError(f'{path} exists already: choose another name')
    try:
        for path, text in files.items():
            with atomic_write(path, 'w') as file:
                file.write(text)
    except OSError as error:
        for written in files:
            written.unlink(missing_ok=True)
        raise InputError(f'cannot write {path}: {error.strerror}') from error
    return list(files)


def _config_text(info: DatasetInfo, recipe: Recipe) -> str:
    data, metainfo = _data(info, recipe), {'classes': tuple(info.classes)}
    if info.task == 'labels':
        metainfo['palette'] = []  # or mmseg takes the base's colors
    names = {key.partition('.')[0] for key in data}
    aliases = {f'test{name[3:]}': Name(name) for name in sorted(names) if name.startswith('val')}
    in_tests = '' if recipe.test_size == recipe.size else f', and {recipe.test_size} in tests'
    sections = {
        'Images and classes.': {'data_root': str(info.root), 'metainfo': metainfo},
        f'Images become {recipe.size}, width and height{in_tests}.': _pipelines(info, recipe),
        'Splits.': data,
        'Tests use the validation split.': {} if 'test' in info.splits else aliases,
        "The model's differences from the base.": _model(info, recipe),
        'The schedule.': schedule(info, recipe),
    }
    text = f'# Written by: mmca config --data {info.root}\n'
    text += ''.join(f'# {name}: {reason}\n' for name, reason in recipe.reasons.items())
    text += BASE.format(recipe.base)
    for comment, section in sections.items():
        text += f'\n# {comment}\n{_code(section)}' if section else ''
    return text


def _code(section: Mapping[str, Any]) -> str:
    """Code that assigns values to keys like those of --cfg-options."""
    from mmengine.config import Config
    from yapf.yapflib.yapf_api import FormatCode

    cfg = Config()
    cfg.merge_from_dict(section)
    text = ''.join(f'{name} = {_expression(value)}\n' for name, value in cfg.items())
    return FormatCode(text, style_config=STYLE)[0]


def _expression(value: Any) -> str:
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={_expression(item)}" for key, item in value.items())})'
    if isinstance(value, list):
        return f'[{", ".join(map(_expression, value))}]'
    return repr(value)


def _pipelines(info: DatasetInfo, recipe: Recipe) -> dict[str, Any]:
    """Pipelines of a small shipped data set, at the recipe's sizes."""
    if recipe.size is None:
        return {}
    small = 'camvid' if info.task == 'labels' else 'penn_fudan'
    shipped = read_config(f'_base_/datasets/{small}')
    pipelines = {name: shipped[name] for name in ('train_pipeline', 'test_pipeline')}
    if info.task == 'labels':
        pipelines['tta_pipeline'] = shipped.tta_pipeline
        width = shipped.test_pipeline[1].scale[0]
        for step in shipped.tta_pipeline[1].transforms[0]:
            step.scale = tuple(round(side * step.scale[0] / width) for side in recipe.size)
    masks = recipe.head.endswith('maskrcnn')
    for name, pipeline in pipelines.items():
        scale = recipe.test_size if name == 'test_pipeline' else recipe.size
        changes = {'scale': scale, 'crop_size': recipe.size[::-1], 'with_mask': masks}
        for step in pipeline:
            step.update({key: value for key, value in changes.items() if key in step})
    return pipelines


def _data(info: DatasetInfo, recipe: Recipe) -> dict[str, Any]:
    data: dict[str, Any] = {'train_dataloader.batch_size': recipe.batch}
    for name, split in info.splits.items():
        data[f'{name}_dataloader.dataset'] = _dataset(info, name, recipe)
        if info.task != 'labels' and name != 'train':
            file = split.listing
            inside = Name(f'data_root + {"/" + file!r}')
            data[f'{name}_evaluator.ann_file'] = file if os.path.isabs(file) else inside
    return data


def _dataset(info: DatasetInfo, name: str, recipe: Recipe) -> dict[str, Any]:
    split, pipeline = info.splits[name], f'{"train" if name == "train" else "test"}_pipeline'
    dataset = {'data_root': Name('data_root'), 'metainfo': Name('metainfo')}
    if split.listing:
        dataset['ann_file'] = split.listing
    if recipe.size or len(split.pairs) > 1:
        dataset['pipeline'] = Name(pipeline if recipe.size else f'{{{{_base_.{pipeline}}}}}')
    if split.labels is None:
        return {**dataset, 'data_prefix': {'img': split.images}}
    dataset['data_prefix'] = {'img_path': split.images, 'seg_map_path': split.labels}
    if info.reduce_zero_label:
        dataset['reduce_zero_label'] = True
    parts = []
    for ends in split.pairs:
        suffixes = dict(zip(('img_suffix', 'seg_map_suffix'), ends))
        listed = {'ann_file': split.lists[ends]} if ends in split.lists else {}
        parts.append({'type': 'BaseSegDataset', **dataset, **listed, **suffixes})
    if len(parts) == 1:
        return parts[0]
    return {'_delete_': True, 'type': 'ConcatDataset', 'datasets': parts}


def _model(info: DatasetInfo, recipe: Recipe) -> dict[str, Any]:
    cfg = read_config(recipe.base)
    values = dict.fromkeys(channel_keys(cfg.model), recipe.channels) if recipe.channels else {}
    values |= dict.fromkeys(class_counts(cfg.model), len(info.classes))
    cfg.merge_from_dict(values)
    places = (re.split(r'\.\d', key)[0] for key in values)  # configs replace lists as a whole
    model = {place: reduce(getitem, place.split('.'), cfg) for place in places}
    if info.task == 'labels' and recipe.size:
        model['model.data_preprocessor.size'] = recipe.size[::-1]
    if recipe.lovasz:
        losses = [cfg.model.decode_head.loss_decode, {'type': 'LovaszLoss', 'reduction': 'none'}]
        model['model.decode_head.loss_decode'] = losses
    if recipe.weights:
        start = {'type': 'Pretrained', 'checkpoint': recipe.weights}
        model['model.backbone'] = {**recipe.options, 'init_cfg': start}
    return model


def schedule(info: DatasetInfo, recipe: Recipe) -> dict[str, Any]:
    """Config keys and values of a recipe's schedule."""
    end = min(WARM_UP if recipe.lr else 10 * WARM_UP, recipe.iterations // 10)
    ramp = {'type': 'LinearLR', 'start_factor': 0.01, 'by_epoch': False, 'begin': 0, 'end': end}
    if info.task == 'labels':
        unit, last, parts, max_norm = 'max_iters', recipe.iterations, VALIDATIONS + 1, 5.0
        decay = {'type': 'PolyLR', 'power': 0.9, 'eta_min': 0.0, 'by_epoch': False, 'begin': end}
    else:
        unit, last, parts, max_norm = 'max_epochs', recipe.epochs, VALIDATIONS, 10.0
        drops = sorted({max(1, round(share * last)) for share in (0.75, 0.92)} - {last})
        decay = {'type': 'MultiStepLR', 'milestones': drops, 'gamma': 0.1, 'begin': 0}
    interval = max(1, last // parts)
    settings = {
        f'train_cfg.{unit}': last,
        'train_cfg.val_interval': interval,
        # LinearLR ends at `end - 1`, so one iteration has no ramp.
        'param_scheduler': [*([ramp] if end > 1 else []), {**decay, 'end': last}],
        'default_hooks.logger.interval': max(1, min(MAX_INTERVAL, recipe.iterations // LOGS)),
        'default_hooks.checkpoint.interval': interval,
    }
    if recipe.lr:
        settings |= {
            'optim_wrapper.optimizer.lr': recipe.lr,
            'optim_wrapper.clip_grad.max_norm': max_norm,
            'auto_scale_lr.base_batch_size': recipe.batch,
        }
    if recipe.head_factor > 1:
        keys = 'optim_wrapper.paramwise_cfg.custom_keys'
        settings |= {f'{keys}.{part}.lr_mult': recipe.head_factor for part in ('neck', 'head')}
    return settings
