"""Export a trained model as an ONNX file or a torch.export program, and compare it with PyTorch.

A segmentor is exported whole: images in, logits and labels out. Of a detector the backbone and
neck are: images in, feature maps out; its heads choose boxes in ways that ONNX files do not hold
here. Images are RGB from 0 to 255, the normalization is in the file. The exit code is 1, and no
file is written, where the difference is beyond the tolerance.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmca.cli.arguments import add_cfg_options, add_checkpoint, add_config
from mmca.config.packages import FULL_STACK, require
from mmca.errors import InputError

if TYPE_CHECKING:
    from mmca.export.model import ExportReport

REQUIRES = FULL_STACK
SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2'}
SMALLEST = 32
GIGA, MIB = 1e9, 1 << 20
EPILOG = """\
examples:
  %(prog)s camvid/fpn_ca_pvt_t work_dirs/fpn_ca_pvt_t/iter_1200.pth --out camvid.onnx
  %(prog)s shapes.py work_dirs/shapes/epoch_5.pth --size 128 160 --out shapes.onnx
  %(prog)s coco/maskrcnn_ca_swin_t epoch_12.pth --to torch --out maps.pt2

From Python:
  from mmca.inference import Predictor, export_model
  predictor = Predictor('camvid/fpn_ca_pvt_t', 'iter_1200.pth', device='cpu')
  report = export_model(predictor, 'camvid.onnx')"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    add_checkpoint(parser)
    parser.add_argument('--out', metavar='FILE', required=True, help='a .onnx or .pt2 file')
    parser.add_argument(
        '--to',
        choices=SUFFIXES,
        default='onnx',
        help='onnx, the default, or torch: a torch.export program',
    )
    parser.add_argument(
        '--size', nargs=2, type=int, metavar=('H', 'W'), help='of all images; default any'
    )
    parser.add_argument(
        '--batch-size', type=int, metavar='N', help='images in a batch; default any number'
    )
    parser.add_argument('--half', action='store_true', help='float16 images, weights and outputs')
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='IMAGE',
        help='image files to compare on; default noise of three shapes',
    )
    add_cfg_options(parser, 'model.test_cfg.mode=whole')


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit code, 1 where the file differs from PyTorch."""
    _check(args)
    if args.to == 'onnx':
        require('onnx', 'onnxscript', 'onnxruntime')
    from mmca.inference import Predictor, export_model

    predictor = Predictor(args.config, args.checkpoint, 'cpu', args.cfg_options)
    size = tuple(args.size) if args.size else None
    try:
        report = export_model(
            predictor, args.out, args.to, size, args.batch_size, args.half, args.images
        )
    except OSError as error:
        raise InputError(f'cannot write {error.filename or args.out}: {error.strerror}') from error
    print('\n'.join(_lines(args, report)))
    return 0 if report.passed else 1


def _check(args: argparse.Namespace) -> None:
    suffix = SUFFIXES[args.to]
    if Path(args.out).suffix != suffix:
        raise InputError(f'--out {args.out}: with --to {args.to} the name must end with {suffix}')
    if args.size and min(args.size) < SMALLEST:
        raise InputError(
            f'--size {args.size[0]} {args.size[1]}: both sides must be at least {SMALLEST}'
        )
    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f'--batch-size must be 1 or more, got {args.batch_size}')


def _lines(args: argparse.Namespace, report: ExportReport) -> list[str]:
    opset = f', opset {report.opset}' if report.opset else ''
    lines = [f'{args.config}: {", ".join(report.contents)}{opset}, {report.size / MIB:.1f} MiB']
    if report.left_out:
        lines.append(f'not exported: {", ".join(report.left_out)}')
    for word, values in (('input', report.inputs), ('output', report.outputs)):
        lines += [f'{word:8}{name:10}{value}' for name, value in values.items()]
    lines.append('')
    runner = 'ONNX Runtime' if report.opset else 'exported'
    labels = report.comparisons[0].same_labels is not None
    lines.append(
        f'{"images":16}{"difference":>12}{"relative":>10}{"labels":>10}'
        if labels
        else f'{"images":16}{"difference":>12}{"relative":>10}'
    )
    lines[-1] += f'{"PyTorch ms":>12}{runner + " ms":>17}'
    for one in report.comparisons:
        line = f'{" x ".join(map(str, one.shape)):16}{one.difference:12.2e}{one.relative:10.1e}'
        if labels:
            line += f'{100 * one.same_labels:9.3f}%'
        lines.append(f'{line}{one.torch_ms:12.1f}{one.file_ms:17.1f}')
    lines.append('')
    return lines + _costs(report) + [_verdict(args, report)]


def _costs(report: ExportReport) -> list[str]:
    flops, (_, height, width) = report.flops, report.comparisons[0].shape
    lines = [f'one image of {height} x {width}: {flops.macs / GIGA:.2f} GMACs with FFTs']
    if report.opset:
        macs = flops.macs - flops.dft + flops.exported_dft
        lines[0] += (
            f' ({flops.dft / GIGA:.2f} of them FFTs), {macs / GIGA:.2f} in the file '
            f'({flops.exported_dft / GIGA:.2f} of them matrix products in place of FFTs)'
        )
    return lines


def _verdict(args: argparse.Namespace, report: ExportReport) -> str:
    if report.passed:
        return f'wrote {args.out}'
    worst = max(one.relative for one in report.comparisons)
    return (
        f'failed: the relative difference to PyTorch is {worst:.1e}, more than '
        f'{report.tolerance:.0e}; {args.out} was not written'
    )
