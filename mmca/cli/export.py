"""Export a trained model as an ONNX file or a torch.export program, and compare it with PyTorch.

Segmentors return logits and labels. RetinaNet, Faster R-CNN and Mask R-CNN take one image and
return boxes, scores, labels and masks. With --to torch or --feature-maps, detectors return feature
maps; other detectors can only be exported this way. Images are RGB from 0 to 255; the file
normalizes them. If outputs differ from PyTorch by more than the tolerance, the command writes no
file and exits with 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmca.cli.arguments import add_cfg_options, add_trained
from mmca.cli.table import print_table
from mmca.config.packages import FULL_STACK, require
from mmca.errors import InputError

REQUIRES = FULL_STACK
SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2'}
GIGA = 1e9
EPILOG = """\
examples:
  %(prog)s camvid/fpn_ca_pvt_t work_dirs/fpn_ca_pvt_t/iter_1200.pth --out camvid.onnx
  %(prog)s coco/maskrcnn_ca_swin_t epoch_12.pth --to torch --size 480 640 --out maps.pt2

From Python:
  from mmca.export import export_model
  from mmca.inference import Predictor
  predictor = Predictor('camvid/fpn_ca_pvt_t', 'iter_1200.pth', device='cpu')
  report = export_model(predictor, 'camvid.onnx')"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_trained(parser)
    add = parser.add_argument
    add('--out', metavar='FILE', required=True, help='output file, .onnx or .pt2')
    kind = 'file format; default onnx; torch writes a torch.export program'
    add('--to', choices=SUFFIXES, default='onnx', help=kind)
    add('--size', nargs=2, type=int, metavar=('H', 'W'), help='fix the image size; default any')
    add('--batch-size', type=int, metavar='N', help='fix the batch size; default any')
    add('--half', action='store_true', help='use float16 for images, weights and outputs')
    maps = 'export only the backbone and neck of a detector, for any batch size'
    add('--feature-maps', action='store_true', help=maps)
    images = 'images for the comparison; default: noise of three sizes'
    add('--images', nargs='+', default=[], metavar='IMAGE', help=images)
    add_cfg_options(parser, 'model.test_cfg.mode=whole')


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit status, 1 where the file differs from PyTorch."""
    suffix = SUFFIXES[args.to]
    if Path(args.out).suffix != suffix:
        raise InputError(f'--out {args.out}: with --to {args.to} it must end in {suffix}')
    if args.to == 'onnx':
        require('onnx', 'onnxscript', 'onnxruntime')
    from mmca.export import export_model
    from mmca.inference import Predictor

    predictor = Predictor(args.config, args.checkpoint, 'cpu', args.cfg_options)
    size = tuple(args.size) if args.size else None
    options = size, args.batch_size, args.half, args.images, args.feature_maps
    report = export_model(predictor, args.out, args.to, *options)
    opset = f', opset {report.opset}' if report.opset else ''
    print(f'{", ".join(report.contents)}{opset}, {report.size / 2**20:.1f} MiB')
    print(f'images -> {", ".join(report.outputs)}')
    if report.left_out:
        print(f'not exported: {", ".join(report.left_out)}')
    rows = [
        [' x '.join(map(str, one.shape)), f'{one.difference:.2e}', f'{one.relative:.1e}']
        + ['-' if one.same is None else f'{100 * one.same:.3f}%']
        + [f'{one.torch_ms:.1f}', f'{one.file_ms:.1f}']
        for one in report.comparisons
    ]
    whole = 'boxes' in report.outputs
    same = 'same objects' if whole else 'same labels'
    header = ('images', 'difference', 'relative', same, 'PyTorch ms', 'file ms')
    print_table(header, rows)
    if whole and not any(one.objects for one in report.comparisons):
        print('no objects were found to compare; add --images that contain objects')
    _, height, width = report.comparisons[0].shape
    flops, fft = report.flops, report.flops.exported_dft if report.opset else report.flops.dft
    print(
        f'one image of {height} x {width}: {flops.macs / GIGA:.2f} GMACs '
        f'({flops.dft / GIGA:.2f} of them FFTs), {(flops.macs - flops.dft + fft) / GIGA:.2f} in '
        f'the file ({fft / GIGA:.2f} {"matrix products for FFTs" if report.opset else "FFTs"})'
    )
    if report.passed:
        print(f'wrote {args.out}')
        return 0
    worst = max(one.relative for one in report.comparisons)
    reason = f'the relative difference {worst:.1e} exceeds {report.tolerance:.0e}'
    if worst <= report.tolerance:
        reason = f'{100 * report.unshared:.1f}% of the objects are in only one of the two results'
    print(f'failed: {reason}, so {args.out} was not written')
    return 1
