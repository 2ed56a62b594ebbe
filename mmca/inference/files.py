"""Predict on files and write the results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmca.errors import InputError
from mmca.inference.drawing import Visualizer
from mmca.inference.ground_truth import open_truth
from mmca.inference.predictor import Predictor, Result
from mmca.inference.sources import Source, find_sources
from mmca.inference.writers import DetectionTable, write_jpeg, write_labels, write_video

if TYPE_CHECKING:
    from mmcv import VideoReader

COMPLETE = 0.95  # of a video's frames; some formats state their number roughly


@dataclass
class Summary:
    """What :func:`predict_files` wrote.

    Attributes:
        images: number of images written.
        frames: number of video frames written.
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
    from rich.progress import track

    job = _Job(predictor, inputs, Path(out), ann, score_thr, batch_size)
    for _ in track(job.steps(), 'predict', total=job.total):
        pass
    return job.summary


class _Job:
    """One call of :func:`predict_files`."""

    def __init__(self, predictor: Predictor, inputs, out: Path, ann, score_thr, batch_size) -> None:
        from mmcv import VideoReader

        if not 0 <= score_thr <= 1:
            raise InputError(f'score_thr must be from 0 to 1, got {score_thr}')
        if batch_size < 1:
            raise InputError(f'batch_size must be 1 or more, got {batch_size}')
        sources, missing, skipped = find_sources(inputs, out)
        failures = [(text, 'no such image or video') for text in missing]
        self.summary = Summary(skipped=skipped, failures=failures)
        self.predictor, self.out, self.batch_size = predictor, out, batch_size
        self.visualize = Visualizer(predictor.palette, score_thr)
        self.images = [source for source in sources if not source.is_video]
        self.videos = {s: VideoReader(str(s.path)) for s in sources if s.is_video}
        self.total = len(self.images) + sum(max(v.frame_cnt, 0) for v in self.videos.values())
        self.truth = None if ann is None else open_truth(ann, predictor)
        found = {s: self.truth.find(s) for s in self.images} if self.truth else {}
        self.entries = {source: entry for source, entry in found.items() if entry is not None}
        self.summary.with_truth = len(self.entries)
        if self.truth and not self.entries:
            raise InputError(f'--ann {ann} matches none of the images')
        self.table = None
        if predictor.library == 'mmdet':
            ids = (self.truth.category_ids, self.truth.next_id) if self.truth else ()
            self.table = DetectionTable(predictor.names, *ids)
        out.mkdir(parents=True, exist_ok=True)

    def steps(self) -> Iterator[None]:
        """Do the work, and yield after each image and frame."""
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
        number = 0
        for _ in write_video(
            self.out / f'{source.name}.mp4', reader.fps, self._draw_frames(source, reader)
        ):
            number += 1
            yield
        self.summary.frames += number
        if number < max(COMPLETE * reader.frame_cnt, 1):
            self._fail(source, f'read {number} of {max(reader.frame_cnt, 0)} frames')

    def _draw_frames(self, source: Source, reader: VideoReader) -> Iterator[np.ndarray]:
        for (frame, image), result in self._predict(enumerate(reader)):
            labels = f'{source.file_name}/{frame:06d}.png'
            self._write(image, result, labels, file_name=source.file_name, frame=frame)
            yield self.visualize(image, result, whole_legend=True)

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
