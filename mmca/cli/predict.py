"""Predict on images, folders, glob patterns and videos with a trained detector or segmentor.

Writes DIR/images/NAME.jpg, and DIR/predictions.json (detectors: COCO's layout, all scores) or
DIR/labels/NAME.png (segmentors: label maps in the data set's numbers, with a palette). A video
gives DIR/NAME.mp4 and the predictions of each frame. Inputs that cannot be read are listed at the
end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmca.cli.arguments import add_cfg_options, add_checkpoint, add_config, add_device
from mmca.config.packages import FULL_STACK
from mmca.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from mmcv import VideoReader

    from mmca.inference import Detections, Predictor, Segmentation
    from mmca.inference.sources import Source

REQUIRES = FULL_STACK
SCORE_THR = 0.3
COMPLETE = 0.95  # share of a video's frames; some formats give their number roughly
EPILOG = """\
example:
  %(prog)s coco/maskrcnn_ca_pvt_s epoch_12.pth photos/ clip.mp4 --out out

From Python:
  from mmca.inference import Predictor
  predictor = Predictor('coco/maskrcnn_ca_pvt_s', 'epoch_12.pth')
  result = predictor('image.jpg')"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    add_checkpoint(parser)
    parser.add_argument(
        'inputs',
        metavar='INPUT',
        nargs='+',
        help='an image, a video, a folder (with the folders in it) or a quoted glob pattern',
    )
    parser.add_argument('--out', metavar='DIR', required=True, help='folder for the results')
    parser.add_argument(
        '--ann',
        metavar='PATH',
        help='ground truth to draw beside the predictions: a COCO file (detectors), a folder of '
        "label maps (segmentors); predictions.json takes the COCO file's ids",
    )
    add_device(parser)
    parser.add_argument(
        '--score-thr',
        type=float,
        metavar='S',
        help='detectors: draw objects from this score on; default 0.3',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images in one forward pass; default 1',
    )
    add_cfg_options(parser, 'model.test_cfg.rcnn.score_thr=0.1')


def run(args: argparse.Namespace) -> int:
    """Predict; returns the exit code, 1 where an input could not be read."""
    import torch

    from mmca.inference import Predictor
    from mmca.inference.sources import find_sources

    _check(args)
    sources, passed_over = find_sources(args.inputs, args.out)
    predictor = Predictor(args.config, args.checkpoint, args.device, args.cfg_options)
    if predictor.library == 'mmseg' and args.score_thr is not None:
        raise InputError(f'--score-thr {args.score_thr} is for detectors: drop it')
    if passed_over:
        print(f'files passed over, by suffix neither image nor video: {passed_over}')
    job = _Job(args, predictor, sources)
    try:
        job.out.mkdir(parents=True, exist_ok=True)
        job.run()
    except torch.OutOfMemoryError as error:
        raise InputError(f'out of memory with --batch-size {args.batch_size}: lower it') from error
    except OSError as error:
        raise InputError(f'cannot write {error.filename or args.out}: {error.strerror}') from error
    print(job.summary)
    for path, reason in job.failures:
        print(f'failed: {path}: {reason}', file=sys.stderr)
    return 1 if job.failures else 0


def _check(args: argparse.Namespace) -> None:
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise InputError(f'--out {args.out} is a file: name a folder')
    if args.score_thr is not None and not 0 <= args.score_thr <= 1:
        raise InputError(f'--score-thr must be from 0 to 1, got {args.score_thr}')
    if args.batch_size < 1:
        raise InputError(f'--batch-size must be 1 or more, got {args.batch_size}')


class _Job:
    """One run of the command: reads, predicts, writes, and notes what failed."""

    def __init__(
        self, args: argparse.Namespace, predictor: Predictor, sources: list[Source]
    ) -> None:
        from mmca.inference.drawing import Painter
        from mmca.inference.ground_truth import open_truth
        from mmca.inference.writers import DetectionTable

        self.out, self.batch_size = Path(args.out), args.batch_size
        self.predictor = predictor
        self.images = [source for source in sources if not source.is_video]
        self.videos = [source for source in sources if source.is_video]
        score_thr = SCORE_THR if args.score_thr is None else args.score_thr
        self.paint = Painter(predictor.palette, score_thr)
        self.truth, self.entries = None, {}
        if args.ann is not None:
            self.truth = open_truth(args.ann, predictor)
            found = {source: self.truth.find(source) for source in self.images}
            self.entries = {source: entry for source, entry in found.items() if entry is not None}
            if not self.entries:
                raise InputError(f'--ann {args.ann} has none of the images')
        self.table = None
        if predictor.library == 'mmdet':
            ids = (self.truth.category_ids, self.truth.next_id) if self.truth else ()
            self.table = DetectionTable(predictor.names, *ids)
        self.failures: list[tuple[Path, str]] = []
        self.written = self.frames = 0

    def run(self) -> None:
        """Do all of it, behind a progress bar."""
        from mmcv import VideoReader
        from rich.progress import track

        readers = {source: VideoReader(str(source.path)) for source in self.videos}
        total = len(self.images) + sum(max(reader.frame_cnt, 0) for reader in readers.values())
        for _ in track(self._steps(readers), 'predict', total=total):
            pass
        if self.table is not None:
            self.table.write(self.out / 'predictions.json')

    @property
    def summary(self) -> str:
        """What was written, in one line."""
        words = []
        if self.images:
            words.append(f'{self.written} of {len(self.images)} images')
        if self.truth is not None:
            words.append(f'{len(self.entries)} with ground truth')
        if self.videos:
            words.append(f'{self.frames} video frames')
        return f'{self.out}: {", ".join(words)}'

    def _steps(self, readers: dict[Source, VideoReader]) -> Iterator[None]:
        """Yield after each image and frame."""
        from mmca.inference.writers import write_jpeg

        for (source, image), result in self._predicted(self._readable()):
            truth, entry = self._truth_of(source, image), self.entries.get(source)
            path = self.out / 'images' / f'{source.name}.jpg'
            write_jpeg(path, self.paint(image, result, truth))
            known = {'file_name': source.file_name}
            if self.table is not None and entry is not None:
                known = {'id': entry['id'], 'file_name': entry['file_name']}
            self._record(image, result, f'{source.name}.png', **known)
            self.written += 1
            yield
        yield from [None] * (len(self.images) - self.written)  # those that cannot be read
        for source, reader in readers.items():
            yield from self._video(source, reader)

    def _video(self, source: Source, reader: VideoReader) -> Iterator[None]:
        from mmca.inference.writers import VideoFile

        number = 0
        with VideoFile(self.out / f'{source.name}.mp4', reader.fps) as video:
            for (frame, image), result in self._predicted(enumerate(reader)):
                video.add(self.paint(image, result, whole_legend=True))
                labels = f'{source.file_name}/{frame:06d}.png'
                self._record(image, result, labels, file_name=source.file_name, frame=frame)
                number += 1
                yield
        self.frames += number
        if not number:
            self.failures.append((source.path, 'OpenCV reads no frame of it'))
        elif number < COMPLETE * reader.frame_cnt:
            reason = f'it ends after {number} of {reader.frame_cnt} frames'
            self.failures.append((source.path, reason))

    def _readable(self) -> Iterator[tuple[Source, np.ndarray]]:
        for source in self.images:
            try:
                yield source, self.predictor.read(source.path)
            except InputError as error:
                reason = str(error).removeprefix(f'cannot read {source.path}: ')
                self.failures.append((source.path, reason))

    def _predicted(self, items: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple]:
        """Pairs of an item and its result, of as many items at a time as a batch has."""
        items = iter(items)
        while batch := list(islice(items, self.batch_size)):
            results = self.predictor([image for _, image in batch], self.batch_size)
            yield from zip(batch, results, strict=True)

    def _truth_of(self, source: Source, image: np.ndarray) -> Detections | Segmentation | None:
        if source not in self.entries:
            return None
        try:
            return self.truth.read(self.entries[source], image.shape[:2])
        except InputError as error:
            self.failures.append((source.path, f'{error}; shown without its ground truth'))
            return None

    def _record(
        self, image: np.ndarray, result: Detections | Segmentation, labels: str, **entry: Any
    ) -> None:
        if self.table is not None:
            self.table.add(image.shape[:2], result, **entry)
        else:
            from mmca.inference.writers import write_labels

            shifted = bool(self.predictor.dataset.reduce_zero_label)
            write_labels(self.out / 'labels' / labels, result, shifted)
