"""Count the parameters and multiply-adds of a model for inference on one image.

The count includes the DFTs of circulant attention, which the counters of the libraries omit. For
RoI heads, it assumes the number of boxes in the test settings and 100 masks, as mmdet does.
"""

import argparse

from mmca.cli.arguments import add_cfg_options, add_config, add_shape
from mmca.cli.table import print_table
from mmca.config.packages import FULL_STACK
from mmca.config.reader import load_config
from mmca.errors import InputError

REQUIRES = FULL_STACK
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_pvt_s
  %(prog)s ade20k/fpn_ca_pvt_t --shape 512 512"""
HEADER = ('', 'params M', 'MACs G', 'DFT G', 'DFT %')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_shape(parser, 'default 800 1280 (mmdet), 512 2048 (mmseg), 224 224 (mmpretrain)')
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    from mmengine.registry import MODELS, DefaultScope

    from mmca.analysis.flops import SHAPES, count_parts

    cfg = load_config(args.config, args.cfg_options)
    library = cfg.default_scope
    shape = tuple(args.shape or SHAPES[library])
    if min(shape) < 32:
        raise InputError(f'--shape {shape[0]} {shape[1]}: both sides must be at least 32')
    with DefaultScope.overwrite_default_scope(library):
        parts = count_parts(MODELS.build(cfg.model), library, shape)
    rows = [(name, part.params, part.macs, part.dft) for name, part in parts.items()]
    rows.append(('total', *(sum(column) for column in list(zip(*rows))[1:])))
    print(f'{args.config}, {library}, one image of {shape[0]} x {shape[1]} (H x W)')
    print_table(HEADER, [_cells(*row) for row in rows])
    return 0


def _cells(name: str, params: int, macs: int, dft: int) -> tuple[str, ...]:
    figures = (params / 1e6, macs / 1e9, dft / 1e9, 100 * dft / macs if macs else 0.0)
    return (name, *(f'{figure:8.2f}' for figure in figures))
