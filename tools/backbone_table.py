"""Count all backbones in all sizes, as rows of a table in Markdown.

Parameters are those of an ImageNet classifier (backbone, final norm, 1000-class head), as papers
count them; multiply-adds are the backbone's alone.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_shape

if TYPE_CHECKING:
    from mmca.backbones.base import Backbone

REQUIRES = ('torch', 'mmengine', 'mmcv')
CLASSES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_shape(parser, 'size of the image; default 224 224', (224, 224))


def run(args: argparse.Namespace) -> int:
    """Print the table; returns the exit code."""
    import torch

    from mmca import backbones
    from mmca.analysis import count_flops
    from mmca.registry import MODELS

    height, width = args.shape
    print(f'| backbone | params M | GMACs at {height} x {width} | of which DFT |')
    print('|---|---|---|---|')
    for name, cls in MODELS.module_dict.items():
        for arch in cls.arch_zoo if issubclass(cls, backbones.base.Backbone) else ():
            with torch.device('meta'):  # shapes are all that counts
                model = cls(arch).eval()
                report = count_flops(model, torch.empty(1, 3, height, width))
            params = classifier_params(model) / 1e6
            cells = f'{params:.2f} | {report.macs / 1e9:.2f} | {report.dft / 1e9:.2f}'
            print(f'| {name} {arch} | {cells} |')
    return 0


def classifier_params(model: Backbone) -> int:
    """Count the parameters of the classifier that a backbone was made from.

    Args:
        model: a backbone.

    Returns:
        Its parameters with a 1000-class head and the norms that it had: one, PVTv2 four.
    """
    from mmca.backbones import DeiT, PVTv2

    dims = model.embed_dims if isinstance(model, DeiT) else model.embed_dims[-1]
    body = sum(p.numel() for p in model.parameters())
    if not isinstance(model, PVTv2):  # which keeps the norms of all stages
        body -= sum(p.numel() for n, p in model.named_parameters() if n.startswith('norm'))
        body += 2 * dims
    return body + (dims + 1) * CLASSES
