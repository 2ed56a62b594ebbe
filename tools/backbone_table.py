"""The README's table of backbones: python tools/backbone_table.py [--shape H W].

Parameters are those of an ImageNet classifier (backbone, final norm, 1000-class head), as papers
count them; multiply-adds are the backbone's alone.
"""

import argparse

import torch

from mmca.analysis import count_flops
from mmca.backbones import (
    CAPVT,
    PVT,
    CADeiT,
    CASwin,
    DeiT,
    FLattenPVT,
    FLattenPVTv2,
    FLattenSwin,
    PVTv2,
    Swin,
)
from mmca.backbones.base import Backbone

CLASSES = 1000
FAMILIES = (
    *(PVT, CAPVT, FLattenPVT),
    *(PVTv2, FLattenPVTv2),
    *(Swin, CASwin, FLattenSwin),
    *(DeiT, CADeiT),
)


def classifier_params(model: Backbone) -> int:
    """Parameters of the classifier that a backbone was made from.

    Args:
        model: a backbone.

    Returns:
        Its parameters with a 1000-class head and the norms that it had: one, PVTv2 four.
    """
    dims = model.embed_dims if isinstance(model, DeiT) else model.embed_dims[-1]
    body = sum(p.numel() for p in model.parameters())
    if not isinstance(model, PVTv2):  # which keeps the norms of all stages
        body -= sum(p.numel() for n, p in model.named_parameters() if n.startswith('norm'))
        body += 2 * dims
    return body + (dims + 1) * CLASSES


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--shape', nargs=2, type=int, default=(224, 224), metavar=('H', 'W'), help='image size'
    )
    shape = parser.parse_args().shape
    print(f'| backbone | params M | GMACs at {shape[0]} x {shape[1]} | of which DFT |')
    print('|---|---|---|---|')
    for cls in FAMILIES:
        for arch in cls.arch_zoo:
            with torch.device('meta'):  # shapes are all that counts
                model = cls(arch).eval()
                report = count_flops(model, torch.empty(1, 3, *shape))
            params = classifier_params(model) / 1e6
            cells = f'{params:.2f} | {report.macs / 1e9:.2f} | {report.dft / 1e9:.2f}'
            print(f'| {cls.__name__} {arch} | {cells} |')


if __name__ == '__main__':
    main()
