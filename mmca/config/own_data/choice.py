"""What to train on a data set: model, backbone, size of the images, schedule."""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from mmca.config.shipped import config_names
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmca.config.own_data.found import Found

HEADS = {  # what a config's name begins with -> its name
    'maskrcnn': 'Mask R-CNN',
    'cascade_maskrcnn': 'Cascade Mask R-CNN',
    'fasterrcnn': 'Faster R-CNN',
    'retinanet': 'RetinaNet',
    'fpn': 'Semantic FPN',
    'upernet': 'UperNet',
}
FITTING = {  # the first that a backbone has is the default
    'masks': ('maskrcnn', 'cascade_maskrcnn', 'fasterrcnn', 'retinanet'),
    'boxes': ('fasterrcnn', 'retinanet'),
    'labels': ('fpn', 'upernet'),
}
REASONS = {
    'masks': 'the objects have masks',
    'boxes': 'the objects have boxes, no masks',
    'labels': 'there are label maps',
}
BACKBONE = 'ca_pvt_t'
DEVICES = {'cpu': 'on a CPU', 'cuda': 'on a GPU'}
STEP = 100  # iterations
MULTIPLE = 20  # of the sides of images
MIN_EPOCHS = 4


@dataclass(frozen=True)
class Budget:
    """What a kind of task gets on a kind of device.

    Attributes:
        folders: of the shipped configs to begin with, the first that has one.
        batch: images an iteration, on one device.
        seen: images that training sees at least.
        epochs: what large data sets get, as the published schedules.
        lr: learning rate for that batch; None: the config's, for 16 images.
        lr_from_weights: the same where training starts from weights.
        pixels: of an image, at most; None: the config's size.
    """

    folders: tuple[str, ...]
    batch: int
    seen: int
    epochs: int
    lr: float | None
    lr_from_weights: float | None
    pixels: int | None


BUDGETS = {
    ('objects', 'cpu'): Budget(('penn_fudan', 'coco'), 2, 1200, MIN_EPOCHS, 4e-4, 2e-4, 400 * 300),
    ('labels', 'cpu'): Budget(('camvid', 'ade20k'), 4, 4800, MIN_EPOCHS, 3e-4, 3e-4, 320 * 240),
    ('objects', 'cuda'): Budget(('coco',), 4, 24000, 12, None, None, None),
    ('labels', 'cuda'): Budget(('ade20k', 'camvid'), 8, 48000, 32, None, None, None),
}


@dataclass(frozen=True)
class Choice:
    """What will be trained.

    Attributes:
        base: the shipped config to begin with.
        head: key of `HEADS`.
        backbone: as in the config's name.
        weights: file for the backbone, or None.
        size: width and height that images are resized to, or None for the config's.
        batch: images an iteration.
        epochs: times that each image is seen.
        iterations: the same in iterations.
        lr: learning rate, or None for the config's.
        reasons: what was chosen -> why.
    """

    base: str
    head: str
    backbone: str
    weights: str | None
    size: tuple[int, int] | None
    batch: int
    epochs: int
    iterations: int
    lr: float | None
    reasons: dict[str, str]


def choose(found: Found, args: Namespace) -> Choice:
    """Choose what to train; what the user says comes first.

    Args:
        found: the data set.
        args: model, backbone, weights, size, epochs, batch_size and device, None for what is to be
            chosen.

    Returns:
        The choice.

    Raises:
        InputError: no shipped config is as the user wants it.
    """
    device = args.device or _device()
    budget = BUDGETS['labels' if found.task == 'labels' else 'objects', device]
    backbone, why_backbone = _backbone(args)
    base, head = _base(found.task, budget, args.model, backbone)
    number = found.splits['train'].number
    batch = args.batch_size or budget.batch
    epochs = args.epochs or max(budget.epochs, ceil(budget.seen / number))
    size = tuple(args.size) if args.size else _size(found, budget)
    iterations = epochs * ceil(number / batch)
    if found.task == 'labels' and iterations > STEP:  # counted, so that validations divide it
        iterations = ceil(epochs * number / batch / STEP) * STEP
    lr = budget.lr_from_weights if args.weights else budget.lr
    reasons = {
        'model': f'{HEADS[head]}: {"--model" if args.model else REASONS[found.task]}',
        'backbone': f'{backbone}: {why_backbone}',
        'start': f'{args.weights}' if args.weights else 'from scratch: --weights FILE names one',
        'images': _why_size(size, args, device, found) if size else f'at the size of {base}',
        'schedule': f'{epochs} epoch{"s" * (epochs > 1)}, '
        f'{iterations} iterations of {batch} images: '
        + ('--epochs' if args.epochs else f'{number} images, {DEVICES[device]}'),
        'lr': f'{lr:g}' if lr else f'that of {base}, by --auto-scale-lr',
    }
    return Choice(base, head, backbone, args.weights, size, batch, epochs, iterations, lr, reasons)


def _why_size(size: tuple[int, int], args: Namespace, device: str, found: Found) -> str:
    why = '--size' if args.size else f'{DEVICES[device]}; most are about {_by(found.size)}'
    return f'{_by(size)}: {why}'


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]}'


def _device() -> str:
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _backbone(args: Namespace) -> tuple[str, str]:
    """The backbone's name in configs, and why it is chosen."""
    if args.backbone:
        return args.backbone, '--backbone'
    if args.weights:
        from mmca.backbones.catalog import best_fit

        kind, arch, _ = best_fit(args.weights)
        name = re.sub('^(CA|FLatten)', lambda found: f'{found[1]}_', kind).lower()
        circulant = name if '_' in name else f'ca_{name}'
        return f'{circulant}_{arch[0]}', f'what fits {args.weights}'
    return BACKBONE, 'the smallest with circulant attention'


def _base(task: str, budget: Budget, wanted: str | None, backbone: str) -> tuple[str, str]:
    """The shipped config to begin with, and its head."""
    fitting = FITTING[task]
    if wanted is not None and wanted not in fitting:
        raise InputError(
            f'--model {wanted}: {REASONS[task]}, for which there are {", ".join(fitting)}'
        )
    names = config_names()
    for head in (wanted,) if wanted else fitting:
        for folder in budget.folders:
            if (base := f'{folder}/{head}_{backbone}') in names:
                return base, head
    pattern = re.compile(rf'(?:{"|".join(budget.folders)})/(?:{wanted or "|".join(fitting)})_(.*)')
    known = sorted({match[1] for name in names if (match := pattern.fullmatch(name))})
    raise InputError(
        f'no shipped {wanted or " or ".join(fitting)} has the backbone {backbone}; known are '
        f'{", ".join(known)}'
    )


def _size(found: Found, budget: Budget) -> tuple[int, int] | None:
    """Width and height with at most the budget's pixels, in the proportion of the images."""
    if budget.pixels is None:
        return None
    longer, shorter = found.size
    factor = (budget.pixels / (longer * shorter)) ** 0.5
    if factor >= 1:
        return longer, shorter
    width, height = (
        max(MULTIPLE, round(side * factor / MULTIPLE) * MULTIPLE) for side in (longer, shorter)
    )
    return width, height
