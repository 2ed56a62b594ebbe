"""A model's heads and its preprocessor, compared with the data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from mmca.checks.data import Split
from mmca.config.models import HEADS
from mmca.errors import InputError, warn


def check_classes(model: nn.Module, splits: list[Split]) -> None:
    """Compare the heads of a model with the classes of its data sets.

    A head with too many classes trains without an error, and its extra outputs mean nothing. So
    does a softmax over one channel, whose loss is always zero.

    Raises:
        InputError: a head has another number of classes than a data set, or such a softmax.
    """
    counts = dict(_class_counts(model))
    for split in splits:
        number = len(split.classes)
        wrong = [f'{key}={count}' for key, count in counts.items() if count != number]
        if number and wrong:
            options = ' '.join(f'{key}={number}' for key in counts)
            raise InputError(
                f'{split.key} has {number} classes, but {", ".join(wrong)}; '
                f'for {number} classes: --cfg-options {options}'
            )
    for path, head in model.named_modules():
        loss = getattr(head, 'loss_decode', None)
        parts = loss.modules() if getattr(head, 'out_channels', 0) == 1 and loss else ()
        if any(getattr(part, 'use_sigmoid', None) is False for part in parts):
            raise InputError(
                f'model.{path} has one output channel, whose softmax is always 1; set use_sigmoid='
                'True in its loss_decode, or out_channels=2'
            )


def check_normalization(model: nn.Module, splits: list[Split]) -> None:
    """Warn of images that are normalized twice, or with figures for values from 0 to 1."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return
    for split in splits:
        steps = getattr(getattr(split.dataset, 'pipeline', None), 'transforms', ())
        if any(type(step).__name__ == 'Normalize' for step in steps):
            warn(
                f'{split.key} normalizes images, and model.data_preprocessor does it again; remove '
                'Normalize from the pipeline'
            )
    if mean.max() <= 1 and std.max() < 1:
        warn(
            'model.data_preprocessor has mean and std for values from 0 to 1, but images have '
            'values from 0 to 255; multiply both by 255'
        )


def check_trained_classes(trained: Sequence[str], source: str, splits: list[Split]) -> None:
    """Compare the order of a checkpoint's classes with the data sets' classes.

    Args:
        trained: class names in the order of labels; empty if unknown.
        source: the checkpoint, for messages.
        splits: the data sets.

    Raises:
        InputError: a data set has the same classes in a different order.
    """
    for split in splits:
        if split.classes != list(trained) and sorted(split.classes) == sorted(trained):
            raise InputError(
                f'{source} was trained on the classes of {split.key} in a different order: set '
                f'metainfo.classes={tuple(trained)}'
            )


def _class_counts(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Key -> classes. A head of one channel, or of STDC's boundaries, counts in its own way."""
    for path, module in model.named_modules():
        names = [name for name in path.split('.') if not name.isdigit()]
        count = getattr(module, 'num_classes', None)
        odd = getattr(module, 'out_channels', 0) == 1 or hasattr(module, 'boundary_threshold')
        if isinstance(count, int) and names and names[-1] in HEADS and not odd:
            yield f'model.{path}.num_classes', count
