"""Count the parameters and multiply-adds of a config's model.

The DFTs of circulant attention are counted, which the libraries' own counters take for nothing.
Counted is one image in inference; the RoI heads get as many boxes as the test settings keep, and
100 masks, as in mmdet's own count.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_config, add_shape
from mmca.config.packages import FULL_STACK
from mmca.config.reader import library_of, load_config
from mmca.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from mmca.analysis import FlopReport

REQUIRES = FULL_STACK
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_pvt_s
  %(prog)s ade20k/fpn_ca_pvt_t --shape 512 512"""
DEFAULT_SHAPES = {'mmdet': (800, 1280), 'mmseg': (512, 2048), 'mmpretrain': (224, 224)}
HEADS = {'mmdet': ('rpn_head', 'bbox_head'), 'mmseg': ('decode_head',), 'mmpretrain': ('head',)}
MASKS = 100  # of one image
GIGA, MEGA = 1e9, 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    add_shape(parser, 'size of the image; default 800 1280 (mmdet), 512 2048 (mmseg), 224 224')
    add_cfg_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table for one config; returns the exit code."""
    from mmengine.registry import MODELS, DefaultScope

    cfg = load_config(args.config, args.cfg_options)
    library = library_of(cfg, args.config)
    shape = tuple(args.shape or DEFAULT_SHAPES[library])
    if min(shape) < 32:
        raise InputError(f'--shape {shape[0]} {shape[1]}: both sides must be at least 32')
    with DefaultScope.overwrite_default_scope(library):
        parts = count_parts(MODELS.build(cfg.model), library, shape)
    print(f'{args.config}, {library}, one image of {shape[0]} x {shape[1]} (H x W)')
    print(f'{"":14}{"params M":>10}{"MACs G":>10}{"DFT G":>10}{"DFT %":>8}')
    for name, part in parts.items():
        _print_row(name, part.params, part.macs, part.dft)
    _print_row(
        'total',
        *(
            sum(getattr(part, field) for part in parts.values())
            for field in ('params', 'macs', 'dft')
        ),
    )
    return 0


def count_parts(model: nn.Module, library: str, shape: tuple[int, int]) -> dict[str, FlopReport]:
    """Count a detector, segmentor or classifier part by part.

    Args:
        model: as built from a config; afterwards most of it is on the meta device.
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        shape: height and width of the image.

    Returns:
        Name of the part -> its report, in the order of the forward pass; what runs in training
        only has no multiply-adds.

    Raises:
        InputError: a kind of model whose parts are not known here.
    """
    import torch

    from mmca.analysis import FlopReport, count_flops

    model.eval()
    parts = {}
    x = torch.empty(1, 3, *shape, device='meta')
    for name in ('backbone', 'neck', *HEADS[library]):
        part = getattr(model, name, None)
        if part is None:
            continue
        # Shapes are all that counts, so nothing is computed.
        part.to('meta')
        parts[name] = count_flops(part, x)
        if name in ('backbone', 'neck'):
            with torch.no_grad():
                x = part(x)
    if not parts.keys() & set(HEADS[library]):
        raise InputError(
            f'{type(model).__name__} has no RPN, dense, decode or class head to be counted'
        )
    if hasattr(model, 'roi_head'):
        parts['roi_head'] = _count_roi_head(model, x, shape)
    known = sum(report.params for report in parts.values())
    rest = sum(p.numel() for p in model.parameters()) - known
    if rest:
        parts['training only'] = FlopReport(rest, 0, 0)
    return parts


def _count_roi_head(model: nn.Module, x: tuple, shape: tuple[int, int]) -> FlopReport:
    """Count the RoI heads for as many boxes as the test settings keep, and 100 masks."""
    import torch
    from mmdet.models import CascadeRoIHead

    from mmca.analysis import count_flops

    head = model.roi_head
    if type(head) is CascadeRoIHead:
        return _count_cascade(head, model.test_cfg['rpn']['max_per_img'])
    # RoIAlign cannot run on the meta device: real zeros for this part.
    levels = tuple(torch.zeros(level.shape) for level in x)
    return count_flops(head, levels, *_proposals(model, shape))


def _count_cascade(roi_head: nn.Module, boxes: int) -> FlopReport:
    """Count a cascade head by head: its forward pass computes the masks of all boxes."""
    import torch

    from mmca.analysis import FlopReport, count_flops

    macs = 0
    for kind, number in (('bbox', boxes), ('mask', MASKS)):
        extractors = getattr(roi_head, f'{kind}_roi_extractor', ())
        for extractor, head in zip(extractors, getattr(roi_head, f'{kind}_head', ()), strict=True):
            size = extractor.roi_layers[0].output_size
            rois = torch.empty(number, extractor.out_channels, *size, device='meta')
            macs += count_flops(head.to('meta'), rois).macs
    return FlopReport(sum(p.numel() for p in roi_head.parameters()), macs, 0)


def _proposals(model: nn.Module, shape: tuple[int, int]) -> tuple[list, list]:
    """Boxes for one image, as many as the test settings keep, and the image's meta data."""
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    height, width = shape
    number = model.test_cfg['rpn']['max_per_img']
    box = torch.tensor([width / 4, height / 4, width / 2, height / 2])
    sample = DetDataSample(
        metainfo=dict(
            img_shape=shape, ori_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0)
        )
    )
    return [InstanceData(bboxes=box.repeat(number, 1))], [sample]


def _print_row(name: str, params: int, macs: int, dft: int) -> None:
    share = 100 * dft / macs if macs else 0.0
    print(f'{name:14}{params / MEGA:10.2f}{macs / GIGA:10.2f}{dft / GIGA:10.2f}{share:8.2f}')
