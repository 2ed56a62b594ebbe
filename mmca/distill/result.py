"""Write distilled weights with their provenance and errors, alone and in a whole model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mmca import __version__
from mmca.checkpoint import find_file, match, read_checkpoint
from mmca.config.models import build_on_meta
from mmca.errors import InputError
from mmca.io import atomic_write

BACKBONE = 'backbone.'


def check_outputs(teacher: str, outputs: Mapping[str, str | None]) -> None:
    """Check the files to write, option -> file or None, before hours of work depend on them."""
    taken = {Path(teacher).resolve()}
    for option, file in ((o, f) for o, f in outputs.items() if f is not None):
        path = Path(file).resolve()
        if path.suffix != '.pth' or not path.parent.is_dir():
            raise InputError(f'{option} {file}: must be a .pth file in a folder that exists')
        if path in taken:
            raise InputError(f'{option} {file}: teacher and results need different files')
        taken.add(path)


def neck_and_heads(checkpoint: str, cfg: Config) -> dict[str, Tensor]:
    """Read the neck and the heads of a trained model: name -> tensor.

    Args:
        checkpoint: file of a detector, segmentor or classifier.
        cfg: config of a model with the same neck and heads and any backbone.

    Raises:
        InputError: unreadable file, or a tensor of the neck or a head is missing.
    """
    tensors = read_checkpoint(checkpoint).tensors
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        report = match(tensors, build_on_meta(cfg.model))
    absent = [n for n in (*report.mismatched, *report.missing) if not n.startswith(BACKBONE)]
    if absent:
        raise InputError(
            f"--model-out: {checkpoint} lacks {len(absent)} tensors of the config's neck and "
            f'heads, such as {absent[0]}: only its backbone may differ from the config'
        )
    return {name: tensors[name] for name in report.loaded if not name.startswith(BACKBONE)}


def provenance(teacher: str, images: int, settings: dict, errors: dict) -> dict:
    """The origin of distilled weights; `errors` by iteration."""
    file = find_file(teacher)
    return {
        'teacher': file.name,
        'teacher_sha256': hashlib.sha256(file.read_bytes()).hexdigest(),
        'images': images,
        'settings': settings,
        'errors': errors,
        'versions': {'mmca': __version__, 'torch': str(torch.__version__)},
    }


def save(
    out: str,
    model_out: str | None,
    student: dict[str, Tensor],
    rest: dict[str, Tensor],
    info: dict,
    attn_cfg: dict,
) -> None:
    """Write the student's weights to `out`, and with the rest of a model to `model_out`.

    The files name the options of the student's attention: its tensors fit other heads as well.
    """
    whole = rest | {f'{BACKBONE}{name}': tensor for name, tensor in student.items()}
    for path, key, weights in ((out, 'model', student), (model_out, 'state_dict', whole)):
        if path is not None:
            with atomic_write(path) as file:
                torch.save({key: weights, 'meta': {'attn_cfg': attn_cfg}, 'distill': info}, file)
