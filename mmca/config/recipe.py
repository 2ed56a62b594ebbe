"""Choose model, backbone, image size and schedule for a data set."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

from mmca.config.folders import DatasetInfo
from mmca.config.shipped import config_names
from mmca.errors import InputError

HEADS = {  # start of a config's name -> model
    'maskrcnn': 'Mask R-CNN',
    'cascade_maskrcnn': 'Cascade Mask R-CNN',
    'fasterrcnn': 'Faster R-CNN',
    'retinanet': 'RetinaNet',
    'fpn': 'Semantic FPN',
    'upernet': 'UperNet',
}
TASKS = {  # task -> the reason, heads in order of preference
    'masks': ('objects with masks', ('maskrcnn', 'cascade_maskrcnn', 'fasterrcnn', 'retinanet')),
    'boxes': ('objects with only boxes', ('fasterrcnn', 'retinanet')),
    'labels': ('images with label maps', ('fpn', 'upernet')),
}
BACKBONE = 'ca_pvt_t'
DEVICES = {'cpu': 'on a CPU', 'cuda': 'on a GPU'}
STEP = 100  # iterations
MULTIPLE = 20  # of image sides, in pixels
MIN_SIDE = 32  # pixels


class Budget(NamedTuple):
    """The training budget of a task on a device; None keeps the shipped config's value."""

    folders: tuple[str, ...]  # of shipped configs, in order of preference
    batch: int  # images per iteration; few on a CPU, where a step's time grows with them
    seen: int  # minimum of training images, counting repetitions
    epochs: int  # minimum; large data sets get the published schedules
    lr: float | None = None  # for that batch; grows with the square root of the batch
    lr_from_weights: float | None = None
    head_factor: float = 1.0  # of that rate, in neck and heads
    pixels: int | None = None  # largest image area
    test_factor: float = 1.0  # of the sides of images that were made smaller, in tests
    channels: int | None = None  # of a detector's neck and heads, which take most of a CPU's time
    lovasz_from_weights: bool = False  # whether to add a loss of intersection over union


BUDGETS = {
    ('objects', 'cpu'): Budget(
        folders=('penn_fudan', 'coco'),
        batch=1,
        seen=2400,
        epochs=4,
        lr=2.8e-4,
        lr_from_weights=1.4e-4,
        head_factor=3,
        pixels=400 * 300,
        channels=128,
    ),
    ('labels', 'cpu'): Budget(
        folders=('camvid', 'ade20k'),
        batch=2,
        seen=4800,
        epochs=4,
        lr=2e-4,
        lr_from_weights=2e-4,
        head_factor=10,
        pixels=320 * 240,
        test_factor=1.5,  # the largest in training
        lovasz_from_weights=True,
    ),
    ('objects', 'cuda'): Budget(folders=('coco',), batch=4, seen=24000, epochs=12),
    ('labels', 'cuda'): Budget(folders=('ade20k', 'camvid'), batch=8, seen=48000, epochs=32),
}


@dataclass(frozen=True)
class Recipe:
    """A model and its training schedule; None keeps the base's value."""

    base: str  # shipped config to inherit from
    head: str  # key of `HEADS`
    weights: str | None  # name or file of the backbone's weights; None trains from scratch
    options: dict[str, Any]  # of the backbone, required by the weights
    channels: int | None  # of a detector's neck and heads
    size: tuple[int, int] | None  # (width, height) that images are resized to, in pixels
    test_size: tuple[int, int] | None  # the same in tests
    batch: int  # images per iteration
    epochs: int
    iterations: int
    lr: float | None
    head_factor: float  # of lr, in neck and heads
    lovasz: bool  # whether the decode head also has a Lovasz loss
    reasons: dict[str, str]  # setting -> the choice and its reason


def choose(
    info: DatasetInfo,
    model: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    size: tuple[int, int] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    device: str | None = None,
) -> Recipe:
    """Choose a training recipe; every argument overrides the default.

    Args:
        info: the data set.
        model: key of `HEADS`.
        backbone: as in the shipped configs' names, such as 'ca_swin_t'.
        weights: name or file of weights to start the backbone from, or 'imagenet' for the
            published ones; they select the backbone by default.
        size: (width, height) that images are resized to, in pixels.
        epochs: number of epochs.
        batch_size: images per iteration.
        device: 'cpu' or 'cuda'; default: a GPU if available.

    Raises:
        InputError: an argument is out of range, or no shipped config matches.
    """
    limits = {'epochs': (epochs, 1), 'batch-size': (batch_size, 1)}
    limits['size'] = (size and min(size), MIN_SIDE)
    for name, (value, least) in limits.items():
        if value is not None and value < least:
            raise InputError(f'--{name} {value}: must be at least {least}')
    if device is None:
        import torch

        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    budget = BUDGETS['labels' if info.task == 'labels' else 'objects', device]
    backbone, weights, why_backbone = _backbone(backbone, weights)
    base, head = _base(info.task, budget, model, backbone)
    options = _options(base, weights) if weights else {}
    number = len(info.splits['train'].names)
    batch = batch_size or budget.batch
    why_epochs = '--epochs' if epochs else f'{number} images, {DEVICES[device]}'
    epochs = epochs or max(budget.epochs, ceil(budget.seen / number))
    iterations = epochs * ceil(number / batch)
    if info.task == 'labels' and iterations > STEP:  # so that validations divide it
        iterations = ceil(epochs * number / batch / STEP) * STEP
    usual = f'{DEVICES[device]}; most are about {info.size[0]} x {info.size[1]}'
    why_size = '--size' if size else usual
    size, test_size = (tuple(size), tuple(size)) if size else _sizes(info, budget)
    if lr := budget.lr_from_weights if weights else budget.lr:
        lr = float(f'{lr * (batch / budget.batch) ** 0.5:.2g}')
    factor = budget.head_factor if weights else 1
    faster = f'; {lr * factor:.2g} in neck and heads, which have no weights' if factor > 1 else ''
    in_tests = '' if test_size == size else ', {} x {} in tests'.format(*test_size)
    lovasz = budget.lovasz_from_weights and weights is not None
    loss = {'loss': f'cross-entropy and Lovasz, for IoU: {DEVICES[device]}, from weights'}
    narrow = {'channels': f'{budget.channels} in neck and heads: {DEVICES[device]}'}
    reasons = {
        'model': f'{HEADS[head]}: {"--model" if model else f"for {TASKS[info.task][0]}"}',
        'backbone': f'{backbone}: {why_backbone}',
        'start': weights or 'from scratch; --weights imagenet starts from ImageNet weights',
        **(narrow if budget.channels else {}),
        'images': f'{size[0]} x {size[1]}{in_tests}: {why_size}' if size else f'the size of {base}',
        'schedule': f'{_count(epochs, "epoch")}, {iterations} iterations of '
        f'{_count(batch, "image")}: {why_epochs}',
        **(loss if lovasz else {}),
        'lr': f'{lr:g}{faster}' if lr else f'the rate of {base}, scaled to the batch size',
    }
    return Recipe(
        base=base,
        head=head,
        weights=weights,
        options=options,
        channels=budget.channels,
        size=size,
        test_size=test_size,
        batch=batch,
        epochs=epochs,
        iterations=iterations,
        lr=lr,
        head_factor=factor,
        lovasz=lovasz,
        reasons=reasons,
    )


def _backbone(given: str | None, weights: str | None) -> tuple[str, str | None, str]:
    """The backbone's name in configs, its weights, and the reason for it."""
    name, reason = given or BACKBONE, '--backbone' if given else 'the smallest circulant one'
    if weights:
        from mmca.backbones.catalog import IMAGENET, best_fit, imagenet_weights, short_name

        if weights == IMAGENET:
            return name, imagenet_weights(name), reason
        if not given:
            name, reason = short_name(*best_fit(weights)), f'fits {weights}'
            name = name if name.startswith(('ca_', 'flatten_')) else f'ca_{name}'
    return name, weights, reason


def _options(base: str, weights: str) -> dict[str, Any]:
    """Options of the base's backbone required by the weights."""
    from mmca.backbones.catalog import start_settings
    from mmca.checkpoint import read_checkpoint
    from mmca.config.reader import load_config

    own = load_config(base).model.backbone.to_dict()
    needed = start_settings(own, read_checkpoint(weights))
    return {key: value for key, value in needed.items() if own.get(key) != value}


def _base(task: str, budget: Budget, model: str | None, backbone: str) -> tuple[str, str]:
    """The shipped config to inherit from, and its head."""
    reason, heads = TASKS[task]
    if model is not None and model not in heads:
        raise InputError(f'--model {model} cannot train on {reason}: {", ".join(heads)} can')
    starts = [f'{folder}/{head}_' for folder in budget.folders for head in heads]
    starts = [start for start in starts if not model or f'/{model}_' in start]
    names = config_names()
    for start in starts:
        if f'{start}{backbone}' in names:
            return f'{start}{backbone}', start.partition('/')[2].rstrip('_')
    known = {name.removeprefix(start) for name in names for start in starts if start in name}
    raise InputError(
        f'no shipped {model or " or ".join(heads)} has the backbone {backbone}: choose from '
        f'{", ".join(sorted(known))}'
    )


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}{"s" * (number > 1)}'


def _sizes(
    info: DatasetInfo, budget: Budget
) -> tuple[tuple[int, int], tuple[int, int]] | tuple[None, None]:
    """Width and height in training, within the budget and in the images' proportion; in tests."""
    if budget.pixels is None:
        return None, None
    factor = (budget.pixels / (info.size[0] * info.size[1])) ** 0.5
    if factor >= 1:
        return info.size, info.size
    size = tuple(max(MULTIPLE, round(side * factor / MULTIPLE) * MULTIPLE) for side in info.size)
    larger = min(budget.test_factor, 1 / factor)
    return size, tuple(round(side * larger) for side in size)
