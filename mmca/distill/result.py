"""The weights that a distillation leaves, their provenance and their errors."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mmca import __version__
from mmca.checkpoint import match, read_state_dict
from mmca.config.models import build_on_meta
from mmca.errors import InputError
from mmca.io import atomic_write

BACKBONE = 'backbone.'


def check_outputs(teacher: str, outputs: Mapping[str, str | None]) -> None:
    """Check the files to write before hours of work depend on them.

    Args:
        teacher: a file that must not be overwritten.
        outputs: option -> file or None.

    Raises:
        InputError: a file without .pth or in a missing folder, or one that is named twice.
    """
    taken = [Path(teacher).resolve()]
    for option, file in outputs.items():
        if file is None:
            continue
        path = Path(file)
        if path.suffix != '.pth' or not path.parent.is_dir():
            raise InputError(f'{option} {file}: must be a .pth file in a folder that exists')
        if path.resolve() in taken:
            raise InputError(f'{option} {file}: the teacher and all results need different files')
        taken.append(path.resolve())


def neck_and_heads(checkpoint: str, cfg: Config) -> dict[str, Tensor]:
    """Read the neck and the heads of a trained model, name -> tensor.

    Args:
        checkpoint: file of a detector, segmentor or classifier.
        cfg: config of a model with the same neck and heads and any backbone.

    Raises:
        InputError: unreadable file, or a tensor of the neck or a head is missing.
    """
    tensors = read_state_dict(checkpoint)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        report = match(tensors, build_on_meta(cfg.model))
    absent = [n for n in (*report.mismatched, *report.missing) if not n.startswith(BACKBONE)]
    if absent:
        raise InputError(
            f"--model-out: {checkpoint} lacks {len(absent)} tensors of the config's neck and "
            f'heads, such as {absent[0]}: it must contain a whole model that differs in its '
            'backbone alone'
        )
    return {name: tensors[name] for name in report.loaded if not name.startswith(BACKBONE)}


def provenance(teacher: str, images: Sequence[str], settings: dict, errors: dict) -> dict:
    """The origin of distilled weights: teacher, number of images, settings, errors, versions."""
    return {
        'teacher': Path(teacher).name,
        'teacher_sha256': hashlib.sha256(Path(teacher).read_bytes()).hexdigest(),
        'images': len(images),
        'settings': settings,
        'errors': errors,
        'versions': {'mmca': __version__, 'torch': str(torch.__version__)},
    }


def save(path: str, content: dict) -> None:
    """Write a checkpoint atomically."""
    with atomic_write(path) as file:
        torch.save(content, file)


def error_rows(errors: Mapping[int, Mapping[str, float]]) -> list[tuple[str, str, str]]:
    """Relative error and cosine of every map, before and after.

    Args:
        errors: iteration -> figures on held-out images, from `DistillationReportHook`.
    """
    first, last = errors[min(errors)], errors[max(errors)]
    names = dict.fromkeys(key.rpartition('/')[0] for key in last)
    return [
        (name, *(f'{first[k]:.3f} -> {last[k]:.3f}' for k in (f'{name}/error', f'{name}/cosine')))
        for name in names
    ]
