"""Show what is in a checkpoint file, and which backbone it fits.

Nothing in the file is executed. With a config, its model.backbone is compared with the file;
without one, all backbones of mmca of its family, in all their sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmca.cli.arguments import CONFIG_HELP, add_cfg_options
from mmca.config.packages import FULL_STACK
from mmca.config.reader import library_of, load_config
from mmca.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from mmca.checkpoint import Checkpoint, Report

REQUIRES = FULL_STACK
EPILOG = """\
examples:
  %(prog)s pvt_small.pth
  %(prog)s pvt_small.pth --config coco/maskrcnn_ca_pvt_s"""
MEGA = 1e6
SHOWN = 5  # of the backbones that fit best


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('file', metavar='FILE', help='a .pth, .pt, .bin or .safetensors file')
    parser.add_argument('--config', metavar='CONFIG', help=CONFIG_HELP)
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is in one file; returns the exit code."""
    from torch import nn

    from mmca.checkpoint import fit, read_checkpoint

    checkpoint = read_checkpoint(args.file)
    if args.config is not None:
        backbone = _backbone_of(args)
        _print_content(args.file, checkpoint)
        _, report = fit(checkpoint, backbone)
        print(f'{type(backbone).__name__} of {args.config}: {report.share:.1%} filled; {report}')
        return 0
    _print_content(args.file, checkpoint)
    fits = _fits(checkpoint, args.file)
    if not fits:
        print(f'fits no backbone of mmca; {fit(checkpoint, nn.Module())[1].source}')
        return 0
    name, arch, best = fits[0]
    print(f'{"backbone":14}{"arch":8}{"filled":>8}{"alike":>8}')
    for row_name, row_arch, report in fits[:SHOWN]:
        print(f'{row_name:14}{row_arch:8}{report.share:8.1%}{likeness(report):8.1%}')
    print(f'{name} {arch}: {best}')
    print('in a config:')
    print(
        f"  model = dict(backbone=dict(type='mmca.{name}', arch='{arch}',\n"
        f"      init_cfg=dict(type='Pretrained', checkpoint={args.file!r})))"
    )
    return 0


def best_fit(file: str) -> tuple[str, str]:
    """The backbone that a checkpoint fits best.

    Args:
        file: the checkpoint.

    Returns:
        Class and arch, such as 'CAPVT' and 'tiny'.

    Raises:
        InputError: it fits none.
    """
    from mmca.checkpoint import read_checkpoint

    fits = _fits(read_checkpoint(file), file)
    if not fits:
        raise InputError(
            f'{file} fits no backbone of mmca: `mmca inspect {file}` shows its content'
        )
    return fits[0][:2]


def _fits(checkpoint: Checkpoint, file: str) -> list[tuple[str, str, Report]]:
    """The backbones that a checkpoint fits, the best first."""
    from torch import nn

    from mmca.checkpoint import fit, guess_family

    family = guess_family(fit(checkpoint, nn.Module())[0]) or ''
    candidates = _backbones(family, file)
    fits = [(name, arch, fit(checkpoint, model)[1]) for name, arch, model in candidates]
    fits = [item for item in fits if item[2].loaded]
    return sorted(fits, key=lambda item: likeness(item[2]), reverse=True)


def likeness(report: Report) -> float:
    """How alike a file and a model are, from 0 to 1: what they share of what either has.

    The share of the model alone would not tell sizes apart: a tiny PVT is a part of a small one.

    Args:
        report: from :func:`mmca.checkpoint.fit`.

    Returns:
        Tensors loaded as they are, divided by those in the model or in the file.
    """
    either = (report.loaded, report.missing, report.mismatched, report.unexpected)
    alike = len(report.loaded) - len(report.converted)
    return alike / max(sum(map(len, either)), 1)


def _print_content(file: str, checkpoint: Checkpoint) -> None:
    number = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    kinds = sorted({str(t.dtype).removeprefix('torch.') for t in checkpoint.tensors.values()})
    print(
        f'{file}: {len(checkpoint.tensors)} tensors, {number / MEGA:.2f} M values '
        f'({", ".join(kinds)}), {checkpoint.place}'
    )
    if checkpoint.skipped:
        print(f'skipped: {", ".join(checkpoint.skipped)}')


def _backbone_of(args: argparse.Namespace) -> nn.Module:
    """The backbone of a config, without memory for its weights."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    cfg = load_config(args.config, args.cfg_options)
    if 'backbone' not in (cfg.get('model') or {}):
        raise InputError(f'config {args.config} has no model.backbone')
    library = library_of(cfg, args.config)
    with DefaultScope.overwrite_default_scope(library), torch.device('meta'):
        return MODELS.build({**cfg.model.backbone, 'init_cfg': _start(args.file)})


def _start(file: str) -> dict:
    """An `init_cfg`: some backbones have a position embedding because the file has one."""
    return {'type': 'Pretrained', 'checkpoint': file}


def _backbones(family: str, file: str) -> Iterator[tuple[str, str, nn.Module]]:
    """(class name, arch, model without memory for its weights), of a family in all methods.

    Args:
        family: the end of its classes' names.
        file: the checkpoint from which they would start.
    """
    import torch

    from mmca import backbones

    for name in backbones.__all__:
        if not name.endswith(family.rpartition('-')[2]):
            continue
        for arch in getattr(backbones, name).arch_zoo:
            with torch.device('meta'):
                model = getattr(backbones, name)(arch, init_cfg=_start(file))
            yield name, arch, model
