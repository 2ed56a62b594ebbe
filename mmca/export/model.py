"""Export a trained model, and compare the file with PyTorch."""

from __future__ import annotations

import json
import statistics
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmca.analysis import FlopReport, count_flops
from mmca.errors import InputError
from mmca.export.formats import quiet_export, to_onnx, to_torch
from mmca.export.graph import ExportGraph
from mmca.inference.predictor import Image, Predictor
from mmca.io import atomic_write

# Largest allowed difference, relative to the largest output.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}
# Largest share of a detector's objects that only the file or only PyTorch finds: rounding decides
# scores near a threshold and overlaps near NMS's.
UNSHARED = {torch.float32: 0.02, torch.float16: 0.1}
APART = 1.0  # pixels from which two boxes are different objects
MASK_OVERLAP = 0.9  # intersection over union from which two masks are one object
# (B, H, W) of the traced example and the compared noise, without fixed sizes: at least three
# windows per side in all stages of a Swin, as a torch.export program demands.
EXAMPLE = (2, 480, 544)
SHAPES = {
    'onnx': ((1, 256, 320), (2, 224, 352), (1, 333, 421)),
    'torch': ((1, 480, 512), (2, 449, 480), (1, 490, 533)),
}
SMALLEST = 32  # side of a fixed size, pixels
TORCH = 2, 6  # the oldest version that can export
RUNS = 3  # timed runs; the report has their median


@dataclass(frozen=True)
class Comparison:
    """A comparison of the file with PyTorch on the same images.

    Attributes:
        shape: (B, H, W) of the images.
        difference: largest absolute difference of logits or feature maps, or of the boxes of
            shared objects in pixels.
        largest: largest absolute value of PyTorch's outputs; for boxes, the image's longer side.
        same: fraction of pixels with equal labels, or of objects with equal class, box and mask
            in both results; None for feature maps.
        torch_ms: PyTorch's time for one batch.
        file_ms: the file's time for one batch.
        objects: number of objects found by either.
    """

    shape: tuple[int, int, int]
    difference: float
    largest: float
    same: float | None
    torch_ms: float
    file_ms: float
    objects: int = 0

    @property
    def relative(self) -> float:
        """The difference divided by the largest value."""
        return self.difference / (self.largest or 1.0)


@dataclass(frozen=True)
class ExportReport:
    """The exported parts, and their comparison with PyTorch.

    Attributes:
        contents: names of the exported parts of the model.
        left_out: names of the other parts.
        outputs: names of the outputs.
        opset: ONNX's opset; None for a torch.export program.
        size: bytes of the file.
        flops: multiply-adds of one image of the first comparison; an ONNX file needs
            `exported_dft` instead of `dft`.
        comparisons: one for each shape or image.
        tolerance: largest relative difference that passes.
        unshared_tolerance: largest value of `unshared` that passes.
    """

    contents: tuple[str, ...]
    left_out: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int | None
    size: int
    flops: FlopReport
    comparisons: tuple[Comparison, ...]
    tolerance: float
    unshared_tolerance: float

    @property
    def unshared(self) -> float:
        """Fraction of a detector's objects, over all comparisons, that only one result contains."""
        found = [one for one in self.comparisons if one.objects]
        unshared = sum((1 - one.same) * one.objects for one in found)
        return unshared / max(sum(one.objects for one in found), 1)

    @property
    def passed(self) -> bool:
        """Whether all comparisons are within the tolerances, and the file was written."""
        close = all(one.relative <= self.tolerance for one in self.comparisons)  # False for NaN
        return close and self.unshared <= self.unshared_tolerance


def export_model(
    predictor: Predictor,
    out: str | Path,
    to: str = 'onnx',
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    half: bool = False,
    images: Sequence[Image] = (),
    feature_maps: bool = False,
) -> ExportReport:
    """Export a segmentor or a detector, and compare it with PyTorch.

    The file takes `images`, (B, 3, H, W), RGB from 0 to 255, float32 or float16; see
    :class:`mmca.export.graph.ExportGraph` for its contents. If the difference exceeds the
    tolerance, no file is written.

    Args:
        predictor: the model, on the CPU.
        out: the output file; it is replaced only by a complete file.
        to: 'onnx' or 'torch' (a torch.export program, .pt2).
        size: fixed (H, W); default: any.
        batch_size: fixed number of images; default: any.
        half: float16 inputs, weights and outputs; circulant and focused linear attention still
            compute in float32.
        images: files or arrays (H, W, 3), BGR, for the comparison; resized to `size` if fixed;
            default: noise of three sizes.
        feature_maps: export only a detector's backbone and neck, as 'torch' always does.

    Returns:
        The report; the file was written if `passed` is true.

    Raises:
        InputError: torch is too old or cannot export the model, or an image is unreadable.
        OSError: the file cannot be written.

    Example::

        predictor = Predictor('camvid/fpn_ca_pvt_t', 'weights.pth', device='cpu')
        report = export_model(predictor, 'camvid.onnx', size=(360, 480))
    """
    if torch.__version__ < TORCH:
        raise InputError(
            f'exporting needs torch {".".join(map(str, TORCH))} or newer, not {torch.__version__}; '
            'export the checkpoint in an environment with a newer torch'
        )
    if not Path(out).parent.is_dir():  # before minutes of work
        raise InputError(f'no such folder: {Path(out).parent}')
    if size and min(size) < SMALLEST:
        raise InputError(f'both sides must be at least {SMALLEST}, got {size[0]} x {size[1]}')
    whole = predictor.library == 'mmdet' and to == 'onnx' and not feature_maps
    if whole and batch_size not in (None, 1):
        raise InputError(
            f'a whole detector processes one image at a time, not {batch_size}; '
            'to export only backbone and neck, add --feature-maps'
        )
    batch_size = 1 if whole else batch_size
    graph = ExportGraph(predictor, whole)
    batches = _batches(predictor, to, size, batch_size, images)
    flops = count_flops(graph, batches[0][:1])
    dtype = torch.float16 if half else torch.float32
    graph = graph.to(dtype)
    shape = (batch_size or EXAMPLE[0], 3, *(size or EXAMPLE[1:]))
    dynamic = {} if batch_size else {0: 'batch'}
    dynamic |= {} if size else {2: 'height', 3: 'width'}
    convert, example = to_onnx if to == 'onnx' else to_torch, torch.zeros(shape, dtype=dtype)
    with quiet_export(size):
        content, run, opset = convert(graph, example, dynamic, _metadata(predictor, graph, half))
    report = ExportReport(
        contents=graph.contents,
        left_out=graph.left_out,
        outputs=graph.outputs,
        opset=opset,
        size=len(content),
        flops=flops,
        comparisons=tuple(_compare(predictor, run, one.to(dtype), whole) for one in batches),
        tolerance=TOLERANCES[dtype],
        unshared_tolerance=UNSHARED[dtype],
    )
    if report.passed:
        with atomic_write(out) as stream:
            stream.write(content)
    return report


def _batches(predictor: Predictor, to: str, size, batch_size, images) -> list[Tensor]:
    """Return batches to compare on: (B, 3, H, W), RGB from 0 to 255, float32."""
    if not images:
        shapes = [(count, *size) for count in (1, 2, 3)] if size else SHAPES[to]
        shapes = dict.fromkeys((batch_size or count, 3, *sides) for count, *sides in shapes)
        rng = torch.Generator().manual_seed(0)
        return [torch.randint(0, 256, shape, generator=rng).float() for shape in shapes]
    arrays = [one if isinstance(one, np.ndarray) else predictor.read(one) for one in images]
    if size:
        arrays = [cv2.resize(one, size[::-1]) for one in arrays]
    maps = (torch.from_numpy(one[..., ::-1].copy()).permute(2, 0, 1) for one in arrays)
    return [one.float().expand(batch_size or 1, -1, -1, -1) for one in maps]


def _metadata(predictor: Predictor, graph: ExportGraph, half: bool) -> dict[str, str]:
    """Return what a user of the file needs to know, as JSON except for 'input'."""
    values = {
        'classes': predictor.names,
        'palette': predictor.palette.tolist(),
        'mean': graph.mean.flatten().tolist(),
        'std': graph.std.flatten().tolist(),
        'size_divisor': graph.size_divisor,
    }
    values |= {'strides': graph.strides} if graph.strides else {}
    layout = f'images (batch, 3, height, width), RGB, 0 to 255, float{16 if half else 32}'
    return {'input': layout, **{key: json.dumps(value) for key, value in values.items()}}


def _compare(predictor: Predictor, run: Callable, images: Tensor, whole: bool) -> Comparison:
    found, file_ms = _timed(run, images)
    bgr = list(images.float().flip(1))
    expected, torch_ms = _timed(reference_outputs, predictor, bgr, whole)
    shape = (len(images), *images.shape[2:])
    if whole:
        difference, shared = _match(found, expected)
        objects = len(found[0]) + len(expected[0]) - shared
        same = shared / objects if objects else None
        return Comparison(shape, difference, max(shape[1:]), same, torch_ms, file_ms, objects)
    same = None
    if predictor.library == 'mmseg':
        same = (found.pop() == expected.pop()).float().mean().item()
    differences = [(a.float() - b).abs().max() for a, b in zip(found, expected)]
    largest = max(one.abs().max() for one in expected).item()
    return Comparison(shape, max(differences).item(), largest, same, torch_ms, file_ms)


def _match(found: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[float, int]:
    """Pair equal objects; returns the largest difference of their boxes, and their number."""
    (boxes, _, labels, *masks), (others, _, other_labels, *other_masks) = found, expected
    apart = (boxes.float()[:, None] - others).abs().amax(2)
    apart[labels[:, None] != other_labels] = APART
    pairs = []
    for index in range(len(boxes) if len(others) else 0):
        distance, other = apart[index].min(0)
        if distance < APART and (not masks or _same_mask(masks[0][index], other_masks[0][other])):
            apart[:, other] = APART
            pairs.append(distance.item())
    return max(pairs, default=0.0), len(pairs)


def _same_mask(mask: Tensor, other: Tensor) -> bool:
    return (mask & other).sum().item() >= MASK_OVERLAP * (mask | other).sum().item()


@torch.no_grad()
def reference_outputs(
    predictor: Predictor, images: list[Tensor], whole: bool = False
) -> list[Tensor]:
    """Compute the results of the library for images (3, H, W), BGR.

    Returns:
        Logits and labels of a segmentor; feature maps of a detector or, if it is exported `whole`,
        boxes, scores, labels and masks in the one image.
    """
    model, shape = predictor.model, tuple(images[0].shape[1:])
    with DefaultScope.overwrite_default_scope(predictor.library):
        if predictor.library == 'mmdet' and not whole:
            return list(model.extract_feat(model.data_preprocessor({'inputs': images})['inputs']))
        info = {'ori_shape': shape, 'img_shape': shape, 'scale_factor': (1.0, 1.0)}
        samples = [BaseDataElement(metainfo=info) for _ in images]
        results = model.test_step({'inputs': images, 'data_samples': samples})
    if whole:
        objects = results[0].pred_instances
        return [objects[key] for key in ('bboxes', 'scores', 'labels', 'masks') if key in objects]
    logits = torch.stack([one.seg_logits.data for one in results])
    return [logits, torch.stack([one.pred_sem_seg.data[0] for one in results])]


def _timed(function: Callable, *args: object) -> tuple[list[Tensor], float]:
    """Return a function's result and the median of its times in ms, after this warm-up run."""
    result = list(function(*args))
    times = timeit.repeat(lambda: function(*args), number=1, repeat=RUNS)
    return result, 1000 * statistics.median(times)
