"""The text of a config for a data set of one's own."""

from __future__ import annotations

import colorsys
import copy
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmca.config.own_data.choice import Choice
from mmca.config.own_data.code import Name, assign
from mmca.config.own_data.found import Found, Split
from mmca.config.shipped import PREFIX
from mmca.config.models import class_counts

if TYPE_CHECKING:
    from mmengine.config import Config

VALIDATIONS = 3  # of a training
WARM_UP = 50  # iterations, at most a tenth of the training
LOGS = 40  # lines of a training, at least
MAX_INTERVAL = 50  # iterations between two lines of the log
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')


def config_text(found: Found, choice: Choice, base: Config, command: str) -> str:
    """Write a config that inherits from a shipped one.

    Args:
        found: the data set.
        choice: what to train.
        base: the shipped config.
        command: what wrote it.

    Returns:
        Python code.
    """
    if found.task == 'labels':
        pipelines, data, schedule = _label_pipelines, _label_data, _by_iterations
    else:
        pipelines, data, schedule = _object_pipelines, _object_data, _by_epochs
    resized = {} if choice.size is None else pipelines(choice)
    sections = {
        f'Written by {command}': {'_base_': f'{PREFIX}{choice.base}.py'},
        'What the images and their classes are.': {
            'data_root': str(found.root),
            'metainfo': _metainfo(found),
        },
        f'Images become {choice.size}, width and height.': resized,
        'Where the images are.': data(found, choice),
        'How the model differs from the base.': {'model': _model(found, choice, base)},
        'How long to train, how fast.': schedule(found, choice),
    }
    return '\n'.join(
        f'# {comment}\n' + ''.join(f'{assign(name, value)}\n' for name, value in section.items())
        for comment, section in sections.items()
        if section
    )


def _metainfo(found: Found) -> dict[str, Any]:
    classes = tuple(found.classes)
    if found.task != 'labels':
        return {'classes': classes}
    # A golden ratio apart, so that neighbors differ.
    hues = (number * (5**0.5 - 1) / 2 % 1 for number in range(len(classes)))
    colors = (colorsys.hsv_to_rgb(hue, 0.75, 0.9) for hue in hues)
    return {'classes': classes, 'palette': [[round(255 * c) for c in color] for color in colors]}


def _object_pipelines(choice: Choice) -> dict[str, Any]:
    load = {
        'type': 'LoadAnnotations',
        'with_bbox': True,
        'with_mask': choice.head.endswith('maskrcnn'),
    }
    resize = {'scale': choice.size, 'keep_ratio': True}
    return {
        'train_pipeline': [
            {'type': 'LoadImageFromFile'},
            load,
            {'type': 'RandomResize', **resize, 'ratio_range': (0.8, 1.2)},
            {'type': 'RandomFlip', 'prob': 0.5},
            {'type': 'PackDetInputs'},
        ],
        'test_pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'Resize', **resize},
            load,
            {'type': 'PackDetInputs', 'meta_keys': META},
        ],
    }


def _label_pipelines(choice: Choice) -> dict[str, Any]:
    resize = {'scale': choice.size, 'keep_ratio': True}
    return {
        'train_pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'LoadAnnotations'},
            {'type': 'RandomResize', **resize, 'ratio_range': (0.75, 1.5)},
            {'type': 'RandomCrop', 'crop_size': choice.size[::-1], 'cat_max_ratio': 0.75},
            {'type': 'RandomFlip', 'prob': 0.5},
            {'type': 'PhotoMetricDistortion'},
            {'type': 'PackSegInputs'},
        ],
        'test_pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'Resize', **resize},
            {'type': 'LoadAnnotations'},
            {'type': 'PackSegInputs'},
        ],
        'tta_pipeline': None,
    }


def _object_data(found: Found, choice: Choice) -> dict[str, Any]:
    def dataset(split: Split, kind: str) -> dict[str, Any]:
        return _dataset(split, kind, choice, {'img': split.images})

    data = _loaders(found, choice, dataset)
    for kind in ('val', 'test'):
        if kind in found.splits:
            listing = found.splits[kind].listing
            if not os.path.isabs(listing):
                listing = Name("f'{data_root}/" + listing + "'")
            data[f'{kind}_evaluator'] = {'ann_file': listing}
    return _tested_as_validated(found, data)


def _label_data(found: Found, choice: Choice) -> dict[str, Any]:
    names = dict(zip(('img_suffix', 'seg_map_suffix'), found.suffixes, strict=True))

    def dataset(split: Split, kind: str) -> dict[str, Any]:
        prefix = {'img_path': split.images, 'seg_map_path': split.labels}
        return {'type': 'BaseSegDataset', **_dataset(split, kind, choice, prefix), **names}

    return _tested_as_validated(found, _loaders(found, choice, dataset))


def _dataset(split: Split, kind: str, choice: Choice, prefix: dict[str, str]) -> dict[str, Any]:
    listed = {'ann_file': split.listing} if split.listing else {}
    resized = {'pipeline': Name(f'{kind}_pipeline')} if choice.size else {}
    shared = {'data_root': Name('data_root'), 'metainfo': Name('metainfo')}
    return {**shared, **listed, 'data_prefix': prefix, **resized}


def _loaders(
    found: Found, choice: Choice, dataset: Callable[[Split, str], dict[str, Any]]
) -> dict[str, Any]:
    loaders = {
        f'{name}_dataloader': {'dataset': dataset(split, 'train' if name == 'train' else 'test')}
        for name, split in found.splits.items()
    }
    loaders['train_dataloader'] = {'batch_size': choice.batch, **loaders['train_dataloader']}
    return loaders


def _tested_as_validated(found: Found, data: dict[str, Any]) -> dict[str, Any]:
    """Add what tests: the images of validation, where there are no others."""
    if 'test' in found.splits:
        return data
    same = {f'test{name[3:]}': Name(name) for name in data if name.startswith('val')}
    return {**data, **same}


def _model(found: Found, choice: Choice, base: Config) -> dict[str, Any]:
    """What differs from the base's model: classes, weights, size."""
    model: dict[str, Any] = {}
    if choice.weights:
        model['backbone'] = {'init_cfg': {'type': 'Pretrained', 'checkpoint': choice.weights}}
    if found.task == 'labels' and choice.size:
        model['data_preprocessor'] = {'size': choice.size[::-1]}
    for key in class_counts(base.model, 'mmseg' if found.task == 'labels' else 'mmdet'):
        path = key.split('.')[1:]
        node, own = model, base.model
        for name in path[:-1]:
            if isinstance(own[name], (list, tuple)):  # which a config replaces as a whole
                heads = node.setdefault(name, copy.deepcopy(own[name]))
                for head in heads:
                    head['num_classes'] = len(found.classes)
                break
            node, own = node.setdefault(name, {}), own[name]
        else:
            node[path[-1]] = len(found.classes)
    return model


def _by_epochs(found: Found, choice: Choice) -> dict[str, Any]:
    epochs = choice.epochs
    interval = max(1, epochs // VALIDATIONS)
    step = {'by_epoch': True, 'begin': 0, 'end': epochs, 'gamma': 0.1}
    drops = sorted({max(1, round(share * epochs)) for share in (0.75, 0.92)} - {epochs})
    return {
        'train_cfg': {'max_epochs': epochs, 'val_interval': interval},
        'param_scheduler': [
            *_warm_up(choice),
            {'type': 'MultiStepLR', 'milestones': drops, **step},
        ],
        **_optimizer(choice, 10.0),
        'default_hooks': {'logger': _logger(choice), 'checkpoint': {'interval': interval}},
    }


def _by_iterations(found: Found, choice: Choice) -> dict[str, Any]:
    iterations = choice.iterations
    interval = max(1, iterations // (VALIDATIONS + 1))
    warm_up = _warm_up(choice)
    decay = {'power': 0.9, 'eta_min': 0.0, 'by_epoch': False}
    return {
        'train_cfg': {'max_iters': iterations, 'val_interval': interval},
        'param_scheduler': [
            *warm_up,
            {
                'type': 'PolyLR',
                **decay,
                'begin': warm_up[0]['end'] if warm_up else 0,
                'end': iterations,
            },
        ],
        **_optimizer(choice, 5.0),
        'default_hooks': {'logger': _logger(choice), 'checkpoint': {'interval': interval}},
    }


def _warm_up(choice: Choice) -> list[dict[str, Any]]:
    """What raises the learning rate at first; nothing in a training of a few iterations."""
    end = min(WARM_UP if choice.lr else 10 * WARM_UP, choice.iterations // 10)
    ramp = {'type': 'LinearLR', 'start_factor': 0.01, 'by_epoch': False, 'begin': 0, 'end': end}
    return [ramp] if end else []


def _optimizer(choice: Choice, max_norm: float) -> dict[str, Any]:
    if choice.lr is None:
        return {}
    rate = {'optimizer': {'lr': choice.lr}, 'clip_grad': {'max_norm': max_norm}}
    return {'optim_wrapper': rate, 'auto_scale_lr': {'base_batch_size': choice.batch}}


def _logger(choice: Choice) -> dict[str, int]:
    return {'interval': max(1, min(MAX_INTERVAL, choice.iterations // LOGS))}
