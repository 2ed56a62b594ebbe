"""AP of a trained detector on tiles of mosaics, and as an exported file."""

import io
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch

from mmca.engine.coco import COCO
from mmca.inference import Detections, Predictor, predict_files
from mmca.inference.ground_truth import CocoTruth
from mmca.inference.masks import Masks
from mmca.inference.writers import DetectionTable
from mmca.io import find_images

CELLS = 4  # photographs per side of a mosaic
MAX_OBJECTS = 2000  # per image
COMPARED = 3  # images that an export is compared on


def tiles_table(
    config: str,
    checkpoint: str,
    tile: int,
    overlaps: Sequence[float],
    options: Sequence[str],
    work: Path,
    size: tuple[int, int] | None = None,
    whole: bool = False,
    flips: bool = False,
) -> Iterator[str]:
    """Predict on the config's test images alone, and on mosaics of 4 x 4 of them in tiles.

    Args:
        config: a detector's config, whose test images have masks.
        checkpoint: its weights.
        tile: side of a tile in pixels.
        overlaps: shares of a tile that the next one repeats.
        options: `--cfg-options`.
        work: folder for mosaics and predictions.
        size: photographs are cut or padded to (H, W); to a tile by default.
        whole: use only photographs whose objects touch no border.
        flips: use every photograph four times, flipped in both directions.

    Yields:
        A line for the photographs alone, for each overlap, and for mosaics without tiles.
    """
    plain = Predictor(config, checkpoint, cfg_options=options)
    runs = {'photographs alone': (1, plain)}
    for overlap in overlaps:
        tiled = Predictor(config, checkpoint, cfg_options=options, tile=tile, overlap=overlap)
        runs[f'mosaics, overlap {overlap}'] = (CELLS, tiled)
    runs['mosaics, no tiles'] = (CELLS, plain)
    photographs = list(cut_photographs(plain, size or (tile, tile), whole, flips))
    mosaics = len(photographs) // CELLS**2
    for cells in (1, CELLS):
        used = photographs[: mosaics * CELLS**2]
        write_mosaics(used, plain.names, cells, work / f'{cells}')
    for name, (cells, predictor) in runs.items():
        images, truth = work / f'{cells}', work / f'{cells}/truth.json'
        start = time.perf_counter()
        predict_files(predictor, [images], work / name, truth, score_thr=1)
        seconds = (time.perf_counter() - start) / mosaics
        figures = average_precision(truth, work / name / 'predictions.json')
        yield f'{name}: {figures}, {seconds:.1f} s per mosaic'


def cut_photographs(
    predictor: Predictor, size: tuple[int, int], whole: bool, flips: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut or pad test images; yields image (H, W, 3), labels (n,) and masks (n, H, W), n > 0."""
    truth, images = labeled_images(predictor)
    directions = (1, -1) if flips else (1,)
    for (file, entry), y, x in product(images, directions, directions):
        image, (objects, _) = predictor.read(file)[::y, ::x], truth.read(entry)
        if objects.masks is None:
            continue
        part = np.s_[..., : size[0], : size[1]]
        padding = [(0, max(side - old, 0)) for side, old in zip(size, image.shape)]
        masks = np.pad(np.asarray(objects.masks)[:, ::y, ::x][part], ((0, 0), *padding))
        seen = masks.any((1, 2))
        touched = masks[:, [0, -1]].any() or masks[..., [0, -1]].any()
        if seen.any() and not (whole and touched):
            image = np.pad(image[part[1:]], (*padding, (0, 0)))
            yield image, objects.labels[seen], masks[seen]


def write_mosaics(
    photographs: Sequence[tuple], names: tuple[str, ...], cells: int, out: Path
) -> None:
    """Write mosaics of cells x cells photographs, and their COCO file, truth.json."""
    (height, width), table = photographs[0][0].shape[:2], DetectionTable(names)
    shape = cells * height, cells * width
    shutil.rmtree(out, ignore_errors=True)  # with the images of a run on other photographs
    out.mkdir(parents=True)
    for index in range(len(photographs) // cells**2):
        mosaic, all_masks = np.zeros((*shape, 3), np.uint8), []
        group = photographs[index * cells**2 :]
        for (row, column), (image, _, parts) in zip(np.ndindex(cells, cells), group):
            rows = slice(row * height, (row + 1) * height)
            columns = slice(column * width, (column + 1) * width)
            mosaic[rows, columns] = image
            all_masks.append(np.zeros((len(parts), *shape), bool))
            all_masks[-1][:, rows, columns] = parts
        masks = np.concatenate(all_masks)
        labels = np.concatenate([labels for _, labels, _ in group[: cells**2]])
        masks = Masks.of(masks, shape)
        objects = Detections(masks.boxes, np.ones(len(masks)), labels, names, masks)
        table.add(shape, objects, file_name=f'{index}.png')
        cv2.imwrite(str(out / f'{index}.png'), mosaic)
    table.write(out / 'truth.json')


def exported_table(
    config: str,
    checkpoint: str,
    size: tuple[int, int] | None,
    half: bool,
    options: Sequence[str],
    work: Path,
) -> Iterator[str]:
    """Export a detector to ONNX, and predict on the config's test images with and without it.

    Args:
        config: a detector's config.
        checkpoint: its weights.
        size: (H, W) of the file; any by default.
        half: whether the file computes in float16.
        options: `--cfg-options`.
        work: folder for the file and predictions.

    Yields:
        A line for PyTorch and one for the file: AP, and median milliseconds from the resized
        image to boxes and masks in the original.
    """
    import onnxruntime

    from mmca.export import export_model

    predictor = Predictor(config, checkpoint, 'cpu', options)
    truth, images = labeled_images(predictor)
    work.mkdir(parents=True, exist_ok=True)
    compared = [file for file, _ in images[:COMPARED]]
    export_model(predictor, work / 'model.onnx', size=size, half=half, images=compared)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(work / 'model.onnx', settings)

    def run(data: dict) -> Detections:
        values = data['inputs'].flip(0)[None].numpy().astype('float16' if half else 'float32')
        boxes, scores, labels, *masks = session.run(None, {'images': values})
        sample = data['data_samples']
        boxes = boxes / np.tile(np.float32(sample.scale_factor), 2)
        if masks:
            sides = sample.ori_shape[::-1]
            masks = (cv2.resize(255 * mask.astype(np.uint8), sides) > 127 for mask in masks[0])
            masks = Masks.of(masks, sample.ori_shape)
        return Detections(boxes, scores, labels, predictor.names, masks or None)

    kinds = {'PyTorch': lambda data: predictor.forward([data])[0], 'the file': run}
    tables = {name: DetectionTable(predictor.names, truth) for name in kinds}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for file, entry in images:
        data = predictor.prepare(file)
        for name, predict in kinds.items():
            start = time.perf_counter()
            found = predict(data)
            seconds[name].append(time.perf_counter() - start)
            shape = data['data_samples'].ori_shape
            tables[name].add(shape, found, id=entry['id'], file_name=entry['file_name'])
    for name, table in tables.items():
        table.write(work / 'predictions.json')
        figures = average_precision(predictor.dataset.ann_file, work / 'predictions.json')
        yield f'{name}: {figures}, {1000 * statistics.median(seconds[name]):.0f} ms'


def labeled_images(predictor: Predictor) -> tuple[CocoTruth, list[tuple[Path, dict]]]:
    """The ground truth of a config's test images, and (file, entry in it) of each."""
    truth = CocoTruth(predictor.dataset.ann_file, predictor)
    files = find_images(predictor.dataset.data_prefix['img'])
    pairs = ((file, truth.find(file, file.name)) for file in files)
    return truth, [(file, entry) for file, entry in pairs if entry]


def average_precision(truth: Path | str, predictions: Path) -> str:
    """Box and, if there are masks, mask AP in percent, and the number of objects."""
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):
        expected, found = COCO(truth), COCO(predictions)
        values = []
        masks = any('segmentation' in entry for entry in found.anns.values())
        for kind in ('bbox', 'segm') if masks else ('bbox',):
            evaluation = COCOeval(expected, found, kind)
            evaluation.params.maxDets = [1, 100, MAX_OBJECTS]
            evaluation.evaluate()
            evaluation.accumulate()
            precision = evaluation.eval['precision'][:, :, :, 0, 2]  # all sizes, MAX_OBJECTS
            values.append(f'{100 * precision[precision > -1].mean():.3f}')
    return f'box{" / mask" if masks else ""} AP {" / ".join(values)}, {len(found.anns)} objects'
