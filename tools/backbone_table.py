"""Print parameters and multiply-adds of every backbone as a Markdown table.

Parameters include an ImageNet classifier (final norm and 1000-class head), as papers count them;
multiply-adds are for the backbone alone.
"""

import argparse
import sys

import torch

from mmca.analysis import count_flops
from mmca.backbones import DeiT, PVTv2
from mmca.backbones.base import Backbone
from mmca.cli.arguments import add_shape
from mmca.cli.main import guarded
from mmca.registry import MODELS

CLASSES = 1000


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_shape(parser, 'image size; default 224 224')
    height, width = parser.parse_args().shape or (224, 224)
    print(f'| backbone | params M | GMACs at {height} x {width} | of which DFT |')
    print('|---|---|---|---|')
    for name, cls in MODELS.module_dict.items():
        for arch in cls.arch_zoo if issubclass(cls, Backbone) else ():
            with torch.device('meta'):  # shapes are all that counts
                model = cls(arch).eval()
                report = count_flops(model, torch.empty(1, 3, height, width))
            params = classifier_params(model) / 1e6
            cells = f'{params:.2f} | {report.macs / 1e9:.2f} | {report.dft / 1e9:.2f}'
            print(f'| {name} {arch} | {cells} |')
    return 0


def classifier_params(model: Backbone) -> int:
    """Count the parameters of the ImageNet classifier built on a backbone.

    With the classifier's norms (PVTv2 has four, others one) and a 1000-class head.
    """
    dims = model.embed_dims if isinstance(model, DeiT) else model.embed_dims[-1]
    body = sum(p.numel() for p in model.parameters())
    if not isinstance(model, PVTv2):  # its classifier keeps the norms of all stages
        body -= sum(p.numel() for n, p in model.named_parameters() if n.startswith('norm'))
        body += 2 * dims
    return body + (dims + 1) * CLASSES


if __name__ == '__main__':
    sys.exit(guarded(main))
