"""Show the contents of a checkpoint file and the backbone it fits.

The command never executes code from the file. With --config, it compares the file with the backbone
of the config, otherwise with all backbones of the file's family.
"""

from __future__ import annotations

import argparse

from mmca.cli.arguments import CONFIG_HELP, WEIGHTS_HELP, add_cfg_options
from mmca.cli.table import print_table
from mmca.config.packages import FULL_STACK
from mmca.config.reader import load_config
from mmca.errors import InputError

REQUIRES = FULL_STACK
EPILOG = """\
examples:
  %(prog)s pvt_small
  %(prog)s pvt_small.pth --config coco/maskrcnn_ca_pvt_s"""
SHOWN = 5  # best fitting backbones


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('file', metavar='FILE', help=WEIGHTS_HELP)
    parser.add_argument('--config', metavar='CONFIG', help=CONFIG_HELP)
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the contents of a file; return the exit code."""
    from torch import nn

    from mmca.backbones.catalog import find_backbones, start_settings
    from mmca.checkpoint import fit, read_checkpoint
    from mmca.checkpoint.loader import check_position_embedding

    checkpoint = read_checkpoint(args.file)
    number = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    kinds = sorted({str(t.dtype).removeprefix('torch.') for t in checkpoint.tensors.values()})
    print(
        f'{args.file}: {len(checkpoint.tensors)} tensors, {number / 1e6:.2f} M values '
        f'({", ".join(kinds)}), {checkpoint.place}'
    )
    if checkpoint.skipped:
        print(f'skipped: {", ".join(checkpoint.skipped)}')
    if args.config is not None:
        backbone = _backbone(args)
        _, report = fit(checkpoint, backbone)
        print(f'{type(backbone).__name__} of {args.config}: {report.share:.1%} filled; {report}')
        check_position_embedding(report, args.file)
        return 0
    candidates = find_backbones(checkpoint)
    if not candidates:
        print(f'does not fit any backbone of mmca; {fit(checkpoint, nn.Module())[1].source}')
        return 0
    shown, best = candidates[:SHOWN], candidates[0]
    rows = [(c.name, c.arch, f'{c.report.share:.1%}', f'{c.similarity:.1%}') for c in shown]
    print_table(('backbone', 'arch', 'filled', 'similar'), rows)
    circulant = [c for c in shown if (c.name, c.arch) == (f'CA{best.name}', best.arch)]
    best = circulant[0] if circulant else best
    print(f'{best.name} {best.arch}: {best.report}')
    settings = start_settings({'type': f'mmca.{best.name}', 'arch': best.arch}, checkpoint)
    words = ', '.join(f'{name}={value!r}' for name, value in settings.items())
    print(
        f'in a config:\n  model = dict(backbone=dict({words},\n'
        f"      init_cfg=dict(type='Pretrained', checkpoint={args.file!r})))"
    )
    return 0


def _backbone(args: argparse.Namespace) -> object:
    """Build the backbone of a config without memory for its weights."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    cfg = load_config(args.config, args.cfg_options)
    if 'backbone' not in (cfg.get('model') or {}):
        raise InputError(f'config {args.config} has no model.backbone')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return MODELS.build(cfg.model.backbone)
