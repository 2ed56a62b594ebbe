"""Predict on files and write the results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmcv import VideoReader
from rich.progress import track

from mmca.errors import InputError
from mmca.inference.drawing import Visualizer
from mmca.inference.ground_truth import CocoTruth, LabelMapTruth
from mmca.inference.predictor import Predictor
from mmca.inference.results import Result
from mmca.inference.sources import Source, find_sources
from mmca.inference.writers import DetectionTable, open_video, write_jpeg, write_labels

COMPLETE = 0.95  # of a video's frames; some formats state their number roughly


@dataclass
class Summary:
    """What :func:`predict_files` wrote.

    Attributes:
        images, frames: number of images and of video frames written.
        with_truth: number of images that have a ground truth.
        skipped: number of files in folders that are neither images nor videos.
        failures: (file, reason) of inputs that could not be read.
    """

    images: int = 0
    frames: int = 0
    with_truth: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


def predict_files(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    out: str | Path,
    ann: str | Path | None = None,
    score_thr: float = 0.3,
    batch_size: int = 1,
) -> Summary:
    """Predict on images and videos, behind a progress bar, and write the results.

    Args:
        predictor: the model.
        inputs: files, folders and glob patterns.
        out: the folder of the results.
        ann: ground truth to draw beside the predictions: a COCO file for a detector, a folder of
            label maps for a segmentor.
        score_thr: objects with lower scores are not drawn.
        batch_size: the largest number of images in one forward pass.

    Raises:
        InputError: `ann` does not suit the model or matches none of the images.

    Example::

        summary = predict_files(Predictor('coco/maskrcnn_ca_pvt_s', 'a.pth'), ['photos/'], 'out')
    """
    if not 0 <= score_thr <= 1:
        raise InputError(f'score_thr must be from 0 to 1, got {score_thr}')
    if batch_size < 1:
        raise InputError(f'batch_size must be 1 or more, got {batch_size}')
    visualize = Visualizer(predictor.palette, score_thr)
    job = _Job(predictor, inputs, Path(out), ann, visualize, batch_size)
    for _ in track(job.steps(), 'predict', total=job.total):
        pass
    return job.summary


class _Job:
    """One call of :func:`predict_files`."""

    def __init__(
        self, predictor: Predictor, inputs, out: Path, ann, visualize: Visualizer, batch_size: int
    ) -> None:
        self.predictor, self.out, self.visualize = predictor, out, visualize
        self.batch_size = batch_size
        sources, missing, skipped = find_sources(inputs, out)
        self.images = [source for source in sources if not source.is_video]
        self.videos = {s: VideoReader(str(s.path)) for s in sources if s.is_video}
        self.total = len(self.images) + sum(max(v.frame_cnt, 0) for v in self.videos.values())
        self.entries, ids, detects = {}, (), predictor.library == 'mmdet'
        if ann is not None:
            self.truth = (CocoTruth if detects else LabelMapTruth)(ann, predictor)
            found = {source: self.truth.find(source) for source in self.images}
            self.entries = {source: entry for source, entry in found.items() if entry is not None}
            if not self.entries:
                raise InputError(f'--ann {ann} matches none of the images')
            ids = (self.truth.category_ids, self.truth.next_id) if detects else ()
        self.table = DetectionTable(predictor.names, *ids) if detects else None
        self.summary = Summary(
            with_truth=len(self.entries),
            skipped=skipped,
            failures=[(text, 'no such image or video') for text in missing],
        )

    def steps(self) -> Iterator[None]:
        """Do the work, and yield after each image and frame."""
        self.out.mkdir(parents=True, exist_ok=True)
        for (source, image), result in self._predict(self._read_images()):
            drawn = self.visualize(image, result, self._read_truth(source, image))
            write_jpeg(self.out / 'images' / f'{source.name}.jpg', drawn)
            entry = {'file_name': source.file_name}
            if self.table is not None and source in self.entries:
                entry = {key: self.entries[source][key] for key in ('id', 'file_name')}
            self._write(image, result, f'{source.name}.png', **entry)
            self.summary.images += 1
            yield
        for source, reader in self.videos.items():
            yield from self._predict_video(source, reader)
        if self.table is not None:
            self.table.write(self.out / 'predictions.json')

    def _predict_video(self, source: Source, reader: VideoReader) -> Iterator[None]:
        number, name = 0, source.file_name
        with open_video(self.out / f'{source.name}.mp4', reader.fps) as write:
            for (frame, image), result in self._predict(enumerate(reader)):
                write(self.visualize(image, result, whole_legend=True))
                self._write(image, result, f'{name}/{frame:06d}.png', file_name=name, frame=frame)
                number += 1
                yield
        self.summary.frames += number
        if number < max(COMPLETE * reader.frame_cnt, 1):
            self._fail(source, f'read {number} of {max(reader.frame_cnt, 0)} frames')

    def _predict(self, items: Iterable[tuple[Any, np.ndarray]]) -> Iterator[tuple]:
        """Pair items with their results, one batch at a time."""
        items = iter(items)
        while batch := list(islice(items, self.batch_size)):
            results = self.predictor([image for _, image in batch], self.batch_size)
            yield from zip(batch, results, strict=True)

    def _read_images(self) -> Iterator[tuple[Source, np.ndarray]]:
        for source in self.images:
            try:
                image = self.predictor.read(source.path)
            except Exception as error:  # damaged bytes can make a decoder raise anything
                self._fail(source, str(error).removeprefix(f'cannot read {source.path}: '))
            else:
                yield source, image

    def _read_truth(self, source: Source, image: np.ndarray) -> Result | None:
        if source not in self.entries:
            return None
        try:
            return self.truth.read(self.entries[source], image.shape[:2])
        except Exception as error:  # whatever is malformed in an annotation
            reason = str(error) if isinstance(error, InputError) else repr(error)
            self._fail(source, f'{reason}; drawn without its ground truth')
            return None

    def _write(self, image: np.ndarray, result: Result, labels: str, **entry: Any) -> None:
        if self.table is not None:
            self.table.add(image.shape[:2], result, **entry)
        else:
            shifted = bool(self.predictor.dataset.reduce_zero_label)
            write_labels(self.out / 'labels' / labels, result, shifted)

    def _fail(self, source: Source, reason: str) -> None:
        self.summary.failures.append((str(source.path), reason))
