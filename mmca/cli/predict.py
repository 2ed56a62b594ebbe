"""Predict on images, folders, glob patterns and videos with a trained detector or segmentor.

The command draws predictions in DIR/images/NAME.jpg and DIR/NAME.mp4 (videos). For detectors, it
also writes DIR/predictions.json in COCO's result format with all scores. For segmentors, it writes
label maps to DIR/labels/NAME.png with the class numbers of the data set and a palette. If it cannot
read an input, it processes the others, lists the failure at the end and exits with 1.
"""

from __future__ import annotations

import argparse
import sys

from mmca.cli.arguments import add_cfg_options, add_device, add_score_threshold, add_trained
from mmca.config.packages import FULL_STACK

REQUIRES = FULL_STACK
SHOWN = 8  # classes
EPILOG = """\
examples:
  %(prog)s coco/maskrcnn_ca_pvt_s epoch_12.pth photos/ clip.mp4 --out out
  %(prog)s coco/maskrcnn_ca_pvt_s epoch_12.pth aerial.tif --tile 800 --out out

From Python:
  from mmca.inference import Predictor, predict_files
  predictor = Predictor('coco/maskrcnn_ca_pvt_s', 'epoch_12.pth')
  result = predictor('image.jpg')
  predict_files(predictor, ['photos/', 'clip.mp4'], 'out')"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_trained(parser)
    add = parser.add_argument
    inputs = 'an image, a video, a folder (with its subfolders) or a quoted glob pattern'
    add('inputs', metavar='INPUT', nargs='+', help=inputs)
    add('--out', metavar='DIR', required=True, help='folder for the results')
    truth = 'ground truth to draw next to the predictions: a COCO file (detectors) or a folder of '
    truth += 'label maps (segmentors); predictions.json uses the ids of the COCO file'
    add('--ann', metavar='PATH', help=truth)
    add_device(parser)
    add_score_threshold(parser, 'draw objects that score at least S')
    batch = 'images per forward pass; default 1'
    add('--batch-size', type=int, default=1, metavar='N', help=batch)
    tile = 'for large images: predict on tiles of N x N pixels and merge the results'
    add('--tile', type=int, metavar='N', help=tile)
    overlap = 'overlap of neighboring tiles as a fraction of the tile; default 0.2'
    add('--overlap', type=float, default=0.2, metavar='FRACTION', help=overlap)
    add_cfg_options(parser, 'model.test_cfg.rcnn.score_thr=0.1')


def run(args: argparse.Namespace) -> int:
    """Predict; returns the exit status, 1 if an input could not be read."""
    from mmca.inference import Predictor, predict_files

    predictor = Predictor(
        args.config, args.checkpoint, args.device, args.cfg_options, args.tile, args.overlap
    )
    summary = predict_files(
        predictor, args.inputs, args.out, args.ann, args.score_thr, args.batch_size
    )
    counts = {
        'image{s}': summary.images,
        'video frame{s}': summary.frames,
        'image{s} with ground truth': summary.with_truth,
        'other file{s} skipped': summary.skipped,
    }
    found = [f'{n} {what.format(s="s" * (n != 1))}' for what, n in counts.items() if n]
    print(', '.join(found) or 'no images')
    if predictor.library == 'mmdet':
        classes = ', '.join(f'{name} {n}' for name, n in summary.objects.most_common(SHOWN))
        classes += ', ...' if len(summary.objects) > SHOWN else ''
        found = f'{sum(summary.objects.values())}{classes and f" ({classes})"}'
        print(f'objects scoring at least {args.score_thr:g}: {found}')
    if summary.written:
        print(f'wrote {", ".join(map(str, summary.written))}')
    for path, reason in summary.failures:
        print(f'failed: {path}: {reason}', file=sys.stderr)
    return 1 if summary.failures else 0
