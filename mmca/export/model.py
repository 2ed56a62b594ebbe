"""A trained model as an ONNX file or a torch.export program, compared with PyTorch at once."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mmca.analysis import FlopReport, count_flops
from mmca.io import atomic_write
from mmca.errors import InputError
from mmca.export.formats import Runner, explained, to_onnx, to_torch
from mmca.export.graph import ExportGraph
from mmca.inference.predictor import Image, Predictor

# The largest difference that a file may have, relative to the largest output.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}
# B, H, W with open sizes: of what is traced, and of the noise in the check. Three windows or more
# each way in all stages of a Swin, which a torch.export program demands.
EXAMPLE = (2, 480, 544)
SHAPES = {
    'onnx': ((1, 256, 320), (2, 224, 352), (1, 333, 421)),
    'torch': ((1, 480, 512), (2, 449, 480), (1, 490, 533)),
}
RUNS = 3  # the time is the median


@dataclass(frozen=True)
class Comparison:
    """The file and PyTorch on the same images.

    Attributes:
        shape: (B, H, W) of the images.
        difference: the largest absolute one, of logits or maps.
        largest: the largest absolute value of PyTorch's outputs.
        same_labels: share of pixels, of segmentors; else None.
        torch_ms, file_ms: the time of one batch.
    """

    shape: tuple[int, int, int]
    difference: float
    largest: float
    same_labels: float | None
    torch_ms: float
    file_ms: float

    @property
    def relative(self) -> float:
        """The difference divided by the largest value."""
        return self.difference / (self.largest or 1.0)


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how it compares with PyTorch.

    Attributes:
        contents: the parts of the model that are in the file.
        left_out: those that are not.
        inputs, outputs: name -> dtype and shape.
        opset: of ONNX; None for a torch.export program.
        size: of the file, in bytes.
        flops: multiply-adds of one image of the first comparison; `exported_dft` takes the place
            of `dft` in an ONNX file.
        comparisons: for each shape or image.
        tolerance: the largest relative difference that passes.
    """

    contents: tuple[str, ...]
    left_out: tuple[str, ...]
    inputs: dict[str, str]
    outputs: dict[str, str]
    opset: int | None
    size: int
    flops: FlopReport
    comparisons: tuple[Comparison, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether all comparisons are within the tolerance; if not, no file was written."""
        return all(one.relative <= self.tolerance for one in self.comparisons)  # False for NaN


def export_model(
    predictor: Predictor,
    out: str | Path,
    to: str = 'onnx',
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    half: bool = False,
    images: Sequence[Image] = (),
) -> ExportReport:
    """Export a segmentor, or the backbone and neck of a detector, and compare it with PyTorch.

    The file takes `images`, (B, 3, H, W), RGB from 0 to 255, float32 or float16. See
    :class:`mmca.export.graph.ExportGraph` for what is in it. Nothing is written where the
    difference is beyond the tolerance.

    Args:
        predictor: the model, on the CPU.
        out: the file; replaced at the end.
        to: 'onnx' or 'torch' (a torch.export program, .pt2).
        size: fixed (H, W); default any.
        batch_size: fixed number of images; default any.
        half: float16 inputs, weights and outputs; circulant and focused linear attention compute
            in float32 inside.
        images: files or arrays (H, W, 3), BGR, to compare on; resized to `size` where it is
            fixed; default noise of three shapes.

    Returns:
        The report; the file was written if it has `passed`.

    Raises:
        InputError: torch cannot export the model so, an image cannot be read, or the file cannot
            be written.

    Example::

        predictor = Predictor('camvid/fpn_ca_pvt_t', 'weights.pth', device='cpu')
        report = export_model(predictor, 'camvid.onnx', size=(360, 480))
    """
    out = Path(out)
    if not out.parent.is_dir():
        raise InputError(f'no such folder: {out.parent}')
    shapes = [(count, *size) for count in (1, 2, 3)] if size else SHAPES[to]
    batches = _batches(predictor, shapes, size, batch_size, images)
    graph = ExportGraph(predictor)
    flops = count_flops(graph, batches[0][:1])
    dtype = torch.float16 if half else torch.float32
    graph = graph.to(dtype)
    shape = (batch_size or EXAMPLE[0], 3, *(size or EXAMPLE[1:]))
    dynamic = {} if batch_size else {0: 'batch'}
    dynamic |= {} if size else {2: 'height', 3: 'width'}
    with explained(size):
        convert = to_onnx if to == 'onnx' else to_torch
        example = torch.zeros(shape, dtype=dtype)
        file = convert(graph, example, dynamic, _metadata(predictor, graph, half))
    sides = [dynamic.get(axis, shape[axis]) for axis in (0, 2, 3)]
    report = ExportReport(
        contents=graph.contents,
        left_out=graph.left_out,
        inputs={'images': _describe(dtype, sides[0], 3, *sides[1:])},
        outputs=_describe_outputs(graph, dtype, *sides),
        opset=file.opset,
        size=len(file.content),
        flops=flops,
        comparisons=tuple(_compare(predictor, file.run, batch.to(dtype)) for batch in batches),
        tolerance=TOLERANCES[dtype],
    )
    if report.passed:
        with atomic_write(out) as stream:
            stream.write(file.content)
    return report


def _batches(
    predictor: Predictor,
    shapes: Sequence[tuple[int, int, int]],
    size: tuple[int, int] | None,
    batch_size: int | None,
    images: Sequence[Image],
) -> list[Tensor]:
    """What is compared on: (B, 3, H, W), RGB from 0 to 255, float32."""
    if not images:
        shapes = dict.fromkeys((batch_size or count, *sides) for count, *sides in shapes)
        rng = torch.Generator().manual_seed(0)
        return [
            torch.randint(0, 256, (batch, 3, *sides), generator=rng).float()
            for batch, *sides in shapes
        ]
    arrays = [one if isinstance(one, np.ndarray) else predictor.read(one) for one in images]
    if size:
        arrays = [cv2.resize(one, size[::-1]) for one in arrays]
    maps = (torch.from_numpy(one[..., ::-1].copy()).permute(2, 0, 1) for one in arrays)
    return [one.float().expand(batch_size or 1, -1, -1, -1) for one in maps]


def _metadata(predictor: Predictor, graph: ExportGraph, half: bool) -> dict[str, str]:
    """What a user of the file has to know, as text; lists are JSON."""
    metadata = {
        'input': f'images (batch, 3, height, width), RGB, 0 to 255, float{16 if half else 32}',
        'classes': json.dumps(predictor.names),
        'palette': json.dumps(predictor.palette.tolist()),
        'mean': json.dumps(graph.mean.flatten().tolist()),
        'std': json.dumps(graph.std.flatten().tolist()),
        'size_divisor': str(graph.size_divisor),
    }
    if graph.strides:
        metadata['strides'] = json.dumps(graph.strides)
    return metadata


def _describe(dtype: torch.dtype, *sides: int | str) -> str:
    return f'{str(dtype).removeprefix("torch.")} ({", ".join(map(str, sides))})'


def _describe_outputs(
    graph: ExportGraph, dtype: torch.dtype, batch: int | str, *sides: int | str
) -> dict[str, str]:
    if graph.head is not None:
        logits = _describe(dtype, batch, graph.head.out_channels, *sides)
        return {'logits': logits, 'labels': _describe(torch.int64, batch, *sides)}
    return {
        name: _describe(dtype, batch, channels, *(f'{side} / {stride}' for side in sides))
        for name, channels, stride in zip(graph.outputs, graph.channels, graph.strides, strict=True)
    }


def _compare(predictor: Predictor, run: Runner, images: Tensor) -> Comparison:
    found, file_ms = _timed(run, images)
    raw = [one.flip(0) for one in images.float()]  # BGR, as the model's own preprocessor takes it
    expected, torch_ms = _timed(lambda x: _reference(predictor, x), raw)
    same = None
    if predictor.library == 'mmseg':
        same = (found[1] == expected.pop()).float().mean().item()
    differences = [(a.float() - b).abs().max() for a, b in zip(found, expected, strict=False)]
    batch, _, height, width = images.shape
    return Comparison(
        shape=(batch, height, width),
        difference=max(differences).item(),
        largest=max(one.abs().max() for one in expected).item(),
        same_labels=same,
        torch_ms=torch_ms,
        file_ms=file_ms,
    )


@torch.no_grad()
def _reference(predictor: Predictor, images: list[Tensor]) -> list[Tensor]:
    """The library's own results in float32: logits and labels, or maps."""
    from mmengine.registry import DefaultScope

    model, shape = predictor.model, tuple(images[0].shape[1:])
    with DefaultScope.overwrite_default_scope(predictor.library):
        if predictor.library == 'mmdet':
            return list(model.extract_feat(model.data_preprocessor({'inputs': images})['inputs']))
        from mmseg.structures import SegDataSample

        samples = [SegDataSample(metainfo={'ori_shape': shape, 'img_shape': shape}) for _ in images]
        results = model.test_step({'inputs': images, 'data_samples': samples})
    logits = torch.stack([one.seg_logits.data for one in results])
    return [logits, torch.stack([one.pred_sem_seg.data[0] for one in results])]


def _timed(function: Callable, *args: object) -> tuple[list[Tensor], float]:
    """A function's result and the median of its times in ms, after one run to warm up."""
    result, times = list(function(*args)), []
    for _ in range(RUNS):
        start = time.perf_counter()
        function(*args)
        times.append(1000 * (time.perf_counter() - start))
    return result, statistics.median(times)
