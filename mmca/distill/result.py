"""What a transfer leaves: weights, where they come from, and how near they are to the teacher's."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from mmca import __version__
from mmca.checkpoint import match, read_state_dict
from mmca.io import atomic_write
from mmca.errors import InputError

BACKBONE = 'backbone.'
KINDS = ('error', 'cosine')


def surroundings(checkpoint: str, model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint has around its backbone: the neck and the heads of a model.

    Args:
        checkpoint: the file of a detector, segmentor or classifier.
        model: one with the same neck and heads, whatever its backbone; the meta device will do.

    Returns:
        Name -> tensor.

    Raises:
        InputError: unreadable file, or it lacks a tensor of the neck or of a head.
    """
    tensors = read_state_dict(checkpoint)
    report = match(tensors, model)
    absent = [
        name for name in (*report.mismatched, *report.missing) if not name.startswith(BACKBONE)
    ]
    if absent:
        raise InputError(
            f"{checkpoint} lacks {len(absent)} tensors of the config's neck and heads, such as "
            f'{absent[0]}: it must be of a whole model that differs in its backbone alone'
        )
    return {name: tensors[name] for name in report.loaded if not name.startswith(BACKBONE)}


def provenance(teacher: str, images: int, settings: dict, errors: dict) -> dict:
    """Where the weights of a transfer come from.

    Args:
        teacher: file of the softmax weights.
        images: their number, held-out ones included.
        settings: name -> value.
        errors: iteration -> figures on held-out images.
    """
    return {
        'teacher': Path(teacher).name,
        'teacher_sha256': hashlib.sha256(Path(teacher).read_bytes()).hexdigest(),
        'images': images,
        'settings': settings,
        'errors': errors,
        'versions': {'mmca': __version__, 'torch': str(torch.__version__)},
    }


def save(path: str, content: dict) -> None:
    """Write a checkpoint, whole or not at all."""
    with atomic_write(path) as file:
        torch.save(content, file)


def error_table(errors: dict[int, dict[str, float]]) -> str:
    """Errors and cosines of every map on held-out images, before and after.

    Args:
        errors: iteration -> figures.
    """
    first, last = errors[min(errors)], errors[max(errors)]
    rows = [f'{"held-out images":16}{"relative error":>22}{"cosine":>20}']
    for name in dict.fromkeys(key.rpartition('/')[0] for key in last):
        cells = (f'{first[f"{name}/{k}"]:.3f} -> {last[f"{name}/{k}"]:.3f}' for k in KINDS)
        rows.append(f'{name:16}' + ''.join(f'{cell:>20}' for cell in cells))
    return '\n'.join(rows)
