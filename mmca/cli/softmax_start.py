"""Choose the gain for starting a circulant backbone from softmax weights.

Prints, for every circulant block, the mean entropy of the softmax attention that its weights come
from, and that of its own attention at several gains (factors of the logits). 0 is all weight on
one token, 1 the same weight on all. Take the gain whose column is nearest to 'softmax', by
init_cfg.gain=...
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_shape
from mmca.cli.config_file import library_of, load_config
from mmca.cli.packages import FULL_STACK
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor, nn

REQUIRES = FULL_STACK
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_pvt_s pvt_small.pth --images data/coco/val2017"""
SUFFIXES = ('.jpg', '.jpeg', '.png')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'config', metavar='CONFIG', help='a config whose backbone has circulant stages'
    )
    parser.add_argument(
        'checkpoint', metavar='CHECKPOINT', help='softmax weights of the same family and size'
    )
    parser.add_argument('--images', required=True, help='a folder of images')
    parser.add_argument('--count', type=int, default=8, help='images to take; default 8')
    add_shape(parser, 'size that they are resized to; default 224 320', (224, 320))
    parser.add_argument(
        '--gains', nargs='+', type=float, default=(1.0, 0.5, 0.25, 0.1, 0.05), metavar='G'
    )


def run(args: argparse.Namespace) -> int:
    """Print the table; returns the exit code."""
    from mmca.analysis import attention_entropies

    cfg = load_config(args.config, [])
    library_of(cfg, args.config)
    images = _images(args, cfg)
    softmax = attention_entropies(_backbone(cfg, args.checkpoint, {'attn': 'S'}), images)
    columns = {}
    for gain in args.gains:
        model = _backbone(cfg, args.checkpoint, {}, gain)
        columns[gain] = attention_entropies(model, images)
    paths = [path for path in softmax if _is_circulant(model, path)]
    if not paths:
        raise InputError(f'{args.config}: the backbone has no circulant stage')
    print(f'{len(images)} images of {args.shape[0]} x {args.shape[1]} (H x W)')
    print(f'{"":24}{"softmax":>9}' + ''.join(f'{f"gain {g:g}":>11}' for g in columns))
    for path in paths:
        row = [softmax[path], *(entropies[path] for entropies in columns.values())]
        print(f'{path:24}{row[0]:9.3f}' + ''.join(f'{value:11.3f}' for value in row[1:]))
    return 0


def _backbone(cfg: Config, checkpoint: str, changes: dict, gain: float = 1.0) -> nn.Module:
    from mmengine.registry import MODELS

    from mmca.checkpoint import load_pretrained

    settings = {key: value for key, value in cfg.model.backbone.items() if key != 'init_cfg'}
    model = MODELS.build({**settings, **changes})
    load_pretrained(model, checkpoint, gain=gain)
    return model.eval()


def _is_circulant(model: nn.Module, path: str) -> bool:
    from mmca.layers import CirculantAttention

    return isinstance(model.get_submodule(path), CirculantAttention)


def _images(args: argparse.Namespace, cfg: Config) -> Tensor:
    """(B, 3, H, W), normalised as the config's preprocessor does."""
    import mmcv
    import torch

    folder = Path(args.images)
    files = sorted(f for f in folder.rglob('*') if f.suffix.lower() in SUFFIXES)[: args.count]
    if not files:
        raise InputError(f'--images {folder}: no images there ({", ".join(SUFFIXES)})')
    height, width = args.shape
    loaded = [mmcv.imresize(mmcv.imread(str(f)), (width, height)) for f in files]
    rgb = torch.stack([torch.from_numpy(p[..., ::-1].copy()) for p in loaded]).float()
    preprocessor = cfg.model.data_preprocessor
    mean, std = (torch.tensor(preprocessor[key]) for key in ('mean', 'std'))
    return ((rgb - mean) / std).permute(0, 3, 1, 2)
