"""Predict on images, folders, glob patterns and videos with a trained detector or segmentor.

Writes DIR/images/NAME.jpg, and DIR/predictions.json (detectors: COCO's layout, all scores) or
DIR/labels/NAME.png (segmentors: label maps in the data set's numbers, with a palette). A video
becomes DIR/NAME.mp4, and the predictions of each frame. Inputs that cannot be read are listed at
the end, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys

from mmca.cli.arguments import add_cfg_options, add_device, add_score_threshold, add_trained
from mmca.config.packages import FULL_STACK

REQUIRES = FULL_STACK
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
    truth = 'ground truth to draw beside the predictions: a COCO file (detectors), a folder of '
    truth += "label maps (segmentors); predictions.json adopts the COCO file's ids"
    add('--ann', metavar='PATH', help=truth)
    add_device(parser)
    add_score_threshold(parser, 'draw objects from this score on')
    batch = 'images in a forward pass; default 1'
    add('--batch-size', type=int, default=1, metavar='N', help=batch)
    tile = 'for large images: predict tiles of N x N pixels and merge the results'
    add('--tile', type=int, metavar='N', help=tile)
    overlap = 'share of a tile that the next one shows again; default 0.2'
    add('--overlap', type=float, default=0.2, metavar='SHARE', help=overlap)
    add_cfg_options(parser, 'model.test_cfg.rcnn.score_thr=0.1')


def run(args: argparse.Namespace) -> int:
    """Predict; returns the exit status, 1 where an input could not be read."""
    from mmca.inference import Predictor, predict_files

    predictor = Predictor(
        args.config, args.checkpoint, args.device, args.cfg_options, args.tile, args.overlap
    )
    summary = predict_files(
        predictor, args.inputs, args.out, args.ann, args.score_thr, args.batch_size
    )
    words = [f'{summary.images} images', f'{summary.frames} video frames']
    if args.ann is not None:
        words.append(f'{summary.with_truth} images with ground truth')
    if summary.skipped:
        words.append(f'{summary.skipped} other files skipped')
    print(f'{args.out}: {", ".join(words)}')
    for path, reason in summary.failures:
        print(f'failed: {path}: {reason}', file=sys.stderr)
    return 1 if summary.failures else 0
