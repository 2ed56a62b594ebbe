"""Predict on files and write the results."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmcv import VideoReader
from rich.progress import track

from mmca.errors import InputError
from mmca.inference.drawing import draw
from mmca.inference.ground_truth import CocoTruth, LabelMapTruth
from mmca.inference.predictor import Predictor
from mmca.inference.results import Result
from mmca.inference.writers import DetectionTable, open_video, write_jpeg, write_labels
from mmca.io import IMAGE_SUFFIXES, image_size, is_hidden

VIDEOS = (  # in folders; a file that is named may have any suffix
    *('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.ts'),
    *('.3gp', '.mts', '.m2ts', '.ogv', '.asf', '.vob'),
)
COMPLETE = 0.95  # of a video's frames; some formats state their number roughly


@dataclass
class Summary:
    """What :func:`predict_files` wrote.

    Attributes:
        images: number of images written.
        frames: number of video frames written.
        objects: class -> number of objects that score at least `score_thr`; empty for segmentors.
        written: folders and files with results.
        with_truth: number of images with ground truth.
        skipped: number of files in folders that are neither images nor videos.
        failures: (file, reason) for each unreadable input.
    """

    images: int = 0
    frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    written: list[Path] = field(default_factory=list)
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
    """Predict on images and videos with a progress bar, and write the results.

    Args:
        predictor: the model.
        inputs: files, folders and glob patterns.
        out: the folder for the results.
        ann: ground truth to draw next to the predictions: a COCO file for a detector, a folder of
            label maps for a segmentor.
        score_thr: lowest score of the objects to draw.
        batch_size: the largest number of images per forward pass.

    Raises:
        InputError: `ann` does not fit the model or does not match any image, or a result would
            overwrite an input.

    Example::

        summary = predict_files(Predictor('coco/maskrcnn_ca_pvt_s', 'a.pth'), ['photos/'], 'out')
    """
    if not 0 <= score_thr <= 1:
        raise InputError(f'score_thr must be from 0 to 1, got {score_thr}')
    if batch_size < 1:
        raise InputError(f'batch_size must be 1 or more, got {batch_size}')
    job = _Job(predictor, inputs, Path(out), ann, score_thr, batch_size)
    for _ in track(job.steps(), 'predict', total=job.total):
        pass
    return job.summary


class _Job:
    """One call of :func:`predict_files`."""

    def __init__(self, predictor: Predictor, inputs, out: Path, ann, score_thr, batch_size) -> None:
        self.predictor, self.out, self.batch_size = predictor, out, batch_size
        self.score_thr = score_thr
        self.draw = partial(draw, palette=predictor.palette, score_thr=score_thr)
        sources, missing, skipped = find_sources(inputs)
        videos = [source for source in sources if _is_video(source.path)]
        self.images = [source for source in sources if source not in videos]
        results = [f'images/{source.name}.jpg' for source in self.images]
        results += [f'labels/{source.name}.png' for source in self.images]
        results += [f'{source.name}.mp4' for source in videos]
        root = os.path.abspath(out)
        for path in {source.path for source in sources} & {Path(root, name) for name in results}:
            raise InputError(f'--out {out}: a result would overwrite the input {path}')
        self.videos = {source: VideoReader(str(source.path)) for source in videos}
        self.total = len(self.images) + sum(max(v.frame_cnt, 0) for v in self.videos.values())
        self.truth, self.entries, detects = None, {}, predictor.library == 'mmdet'
        if ann is not None:
            self.truth = (CocoTruth if detects else LabelMapTruth)(ann, predictor)
            for source in self.images:
                if (entry := self.truth.find(source.path, source.file_name)) is not None:
                    self.entries[source] = entry
            if not self.entries:
                raise InputError(f'--ann {ann} does not match any of the images')
        self.table = DetectionTable(predictor.names, self.truth) if detects else None
        self.summary = Summary(
            with_truth=len(self.entries),
            skipped=skipped,
            failures=[
                (text, f'no {"" if os.path.isdir(text) else "such "}image or video')
                for text in missing
            ],
        )

    def steps(self) -> Iterator[None]:
        """Do the work, and yield after each image and frame."""
        self.out.mkdir(parents=True, exist_ok=True)
        for (source, image), result in self._predict(self._read_images()):
            drawn = self.draw(image, result, truth=self._read_truth(source, image))
            write_jpeg(self.out / 'images' / f'{source.name}.jpg', drawn)
            entry = {'file_name': source.file_name}
            if self.table is not None and source in self.entries:
                entry = {key: self.entries[source][key] for key in ('id', 'file_name')}
            self._write(image, result, f'{source.name}.png', **entry)
            self.summary.images += 1
            yield
        for source, reader in self.videos.items():
            yield from self._predict_video(source, reader)
        videos = [self.out / f'{source.name}.mp4' for source in self.videos]
        written = [path for path in videos if path.exists()]  # without a frame, there is no file
        if self.summary.images:
            written.insert(0, self.out / 'images')
        if self.table is not None:
            written.append(self.out / 'predictions.json')
            self.table.write(written[-1])
        elif written:
            written.append(self.out / 'labels')
        self.summary.written += written

    def _predict_video(self, source: Source, reader: VideoReader) -> Iterator[None]:
        number, name = 0, source.file_name
        with open_video(self.out / f'{source.name}.mp4', reader.fps) as write:
            for (frame, image), result in self._predict(enumerate(reader)):
                write(self.draw(image, result, whole_legend=True))
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
            yield from zip(batch, results)

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
            truth, shape = self.truth.read(self.entries[source])
            if shape != image.shape[:2]:
                raise InputError(f'its size is {shape} (H, W), but the image has {image.shape[:2]}')
        except Exception as error:  # whatever is malformed in an annotation
            reason = error if isinstance(error, InputError) else repr(error)
            self._fail(source, f'drawn without ground truth: {reason}')
            return None
        return truth

    def _write(self, image: np.ndarray, result: Result, labels: str, **entry: Any) -> None:
        if self.table is not None:
            self.table.add(image.shape[:2], result, **entry)
            drawn = result.labels[result.scores >= self.score_thr]
            self.summary.objects.update(result.names[label] for label in drawn)
        else:
            shifted = bool(self.predictor.dataset.reduce_zero_label)
            write_labels(self.out / 'labels' / labels, result, shifted)

    def _fail(self, source: Source, reason: str) -> None:
        self.summary.failures.append((str(source.path), reason))


class Source(NamedTuple):
    """An image or a video."""

    path: Path
    file_name: str  # its path below the folder that all inputs share
    name: str  # `file_name` without suffix, numbered if another source has that name


def find_sources(inputs: Iterable[str | Path]) -> tuple[list[Source], list[str], int]:
    """Find images and videos in files, folders with their subfolders, and glob patterns.

    Returns:
        The sources, each file once; the inputs that match no image or video; and the number of
        files in folders with another suffix.
    """
    roots, paths, missing, skipped = [], {}, [], 0
    for text in map(str, inputs):
        root, files = _expand(text)
        known = [p for p in files if p == root or p.suffix.lower() in IMAGE_SUFFIXES + VIDEOS]
        skipped += len(files) - len(known)
        if known:
            roots.append(root.parent if root.is_file() else root)
            paths |= dict.fromkeys(known)
        else:
            missing.append(text)
    sources: dict[str, Source] = {}
    for path in paths:
        file_name = path.relative_to(os.path.commonpath(roots))
        stem = file_name.with_suffix('').as_posix()
        names = chain([stem], (f'{stem}_{number}' for number in count(2)))
        name = next(name for name in names if name not in sources)
        sources[name] = Source(path, file_name.as_posix(), name)
    return list(sources.values()), missing, skipped


def _expand(text: str) -> tuple[Path, list[Path]]:
    """Return the file or folder that an input names, and its files that are not hidden."""
    root = path = Path(os.path.abspath(os.path.expanduser(text)))
    if path.is_file():
        return path, [path]
    found = path.rglob('*') if path.is_dir() else map(Path, glob.iglob(str(path), recursive=True))
    while glob.has_magic(str(root)) and not root.is_dir():
        root = root.parent
    return root, sorted(p for p in found if p.is_file() and not is_hidden(p, root))


def _is_video(path: Path) -> bool:
    """Whether a file is a video; without a known suffix, whether OpenCV opens it as one."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES + VIDEOS:
        return suffix in VIDEOS
    try:
        image_size(path)
    except InputError:
        return VideoReader(str(path)).opened
    return False
