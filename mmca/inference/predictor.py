"""Predict on images with a trained model."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, Union

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, DefaultScope

from mmca.checkpoint import load_trained, read_checkpoint
from mmca.config.models import class_counts
from mmca.config.packages import import_datasets
from mmca.config.reader import library_of, load_config
from mmca.errors import InputError, warn
from mmca.inference.masks import Masks
from mmca.inference.results import Detections, Result, Segmentation
from mmca.inference.tiles import merge_tiles, tile_corners, tile_stride
from mmca.io import image_size

SMALLEST_TILE = 32
GOLDEN_RATIO = 0.618034  # distance of hues, around the color wheel


Image = Union[str, Path, np.ndarray, PIL.Image.Image]


class Predictor:
    """Predict with a trained detector or segmentor. Results match those of `mmca test`.

    Unlike the inferencers of mmdet and mmseg, it never unpickles checkpoints, and it uses the
    image reader in the config.

    Args:
        config: a file, or the name of a shipped config.
        checkpoint: a .pth file from training; no code in it is executed.
        device: such as 'cpu' or 'cuda:1'; default 'cuda' if there is a GPU, else 'cpu'.
        cfg_options: KEY=VALUE strings that override the config.
        tile: for large images, the side in pixels of square tiles. Detections of the tiles are
            merged by :func:`mmca.inference.tiles.merge_tiles`; segmentors run in mmseg's slide mode
            at the original image size.
        overlap: overlap of neighboring tiles as a fraction of the tile, at least 0, below 1.

    Attributes:
        library: 'mmdet' or 'mmseg'.
        names: the class names from the checkpoint or, if it has none, from the config.
        palette: (K, 3), uint8, RGB, one color per class.
        dataset: the test data set in the config; its files are not read.
        pipeline: the settings of its transforms.
        cfg: the config.
        model: the model in evaluation mode.
        device: the model's device.

    Raises:
        InputError: the config or checkpoint is broken, the checkpoint does not match the model,
            or the tile or overlap is out of range.

    Example::

        predictor = Predictor('coco/maskrcnn_ca_pvt_s', 'weights.pth')
        result = predictor('image.jpg')
        for box, score, label in zip(result.boxes, result.scores, result.labels):
            print(result.names[label], score, box)
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        device: str | None = None,
        cfg_options: Sequence[str] = (),
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> None:
        if tile is not None and tile < SMALLEST_TILE:
            raise InputError(
                f'a tile must have at least {SMALLEST_TILE} pixels per side, got {tile}'
            )
        if not 0 <= overlap < 1:
            raise InputError(f'the overlap of tiles must be at least 0 and below 1, got {overlap}')
        self.tile, self.overlap = tile, overlap
        self.device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        self.cfg = load_config(str(config), cfg_options)
        self.library = library_of(self.cfg, str(config))
        if self.library == 'mmpretrain':
            raise InputError(f'{config} defines a classifier; choose a detector or segmentor')
        import_datasets(self.library)
        weights = read_checkpoint(checkpoint)
        settings = self.cfg.test_dataloader.dataset
        while 'dataset' in settings or 'datasets' in settings:  # wrappers
            settings = settings.get('dataset') or settings['datasets'][0]
        self.pipeline = settings.pipeline
        reader, *steps = self.pipeline
        if type_name(reader) != 'LoadImageFromFile':
            raise InputError(
                f'the test pipeline must begin with LoadImageFromFile, got {type_name(reader)}'
            )
        steps = [step for step in steps if 'Annotation' not in type_name(step)]
        if tile and self.library == 'mmseg':
            steps = [step for step in steps if 'Resize' not in type_name(step)]
            crop, stride = (tile, tile), (tile_stride(tile, overlap),) * 2
            self.cfg.model.test_cfg = {'mode': 'slide', 'crop_size': crop, 'stride': stride}
        with DefaultScope.overwrite_default_scope(self.library):
            self.dataset = DATASETS.build({**settings, 'lazy_init': True, 'pipeline': []})
            self._read = TRANSFORMS.build(reader)
            self._prepare = Compose([{**reader, 'type': 'LoadImageFromNDArray'}, *steps])
            self.model = MODELS.build(self.cfg.model)
        report = load_trained(self.model, weights, checkpoint)
        if absent := [*report.missing, *report.mismatched]:
            warn(f'{checkpoint}: {report.counts}; not loaded: {", ".join(absent[:4])}')
        self.model.to(self.device).eval()
        counts = class_counts(self.cfg.model)
        self.names, self.palette = _find_classes(weights.meta, self.dataset.metainfo, counts)

    def read(self, path: str | Path) -> np.ndarray:
        """Read an image file with the reader of the config's test pipeline.

        Returns:
            (H, W, 3), BGR, uint8 (float32 if the config loads images so).

        Raises:
            InputError: the file is missing, truncated or not an image.
        """
        image_size(path)
        return self._read({'img_path': str(path)})['img']

    def __call__(
        self, images: Image | Sequence[Image], batch_size: int = 1
    ) -> Result | list[Result]:
        """Predict.

        Args:
            images: a file, an image of Pillow, or an array (H, W, 3), BGR from 0 to 255, uint8 or
                float; or a list of them. Gray arrays, (H, W) or (H, W, 1), and those with an alpha
                channel, (H, W, 4), become BGR.
            batch_size: the largest number of images, or of a detector's tiles, per forward pass.
                Images of different sizes get separate passes, since padding to a common size
                would change results.

        Returns:
            One result, or a list for a list of images.

        Raises:
            InputError: a file cannot be read, or an array has another shape, dtype or range.
        """
        if not isinstance(images, (list, tuple)):
            return self([images])[0]
        if self.tile and self.library == 'mmdet':
            return [self._tiled(image, batch_size) for image in images]
        return self._whole(images, batch_size)

    def _tiled(self, image: Image, batch_size: int) -> Detections:
        values = self._as_array(image)
        shape, tile = values.shape[:2], self.tile
        corners = tile_corners(shape, tile, self.overlap)
        parts = [values[y : y + tile, x : x + tile] for y, x in corners]
        return merge_tiles(self._whole(parts, batch_size), corners, shape, tile)

    def _whole(self, images: Sequence[Image], batch_size: int) -> list[Result]:
        results: dict[int, Result] = {}
        for start in range(0, len(images), batch_size):
            groups: dict[tuple, dict[int, dict]] = {}
            for index, image in enumerate(images[start : start + batch_size], start):
                data = self.prepare(image)
                groups.setdefault(data['inputs'].shape, {})[index] = data
            for group in groups.values():
                results |= zip(group, self.forward(list(group.values())))
        return [results[index] for index in range(len(images))]

    def prepare(self, image: Image) -> dict:
        """Run the test pipeline on a file or an array; raises InputError as a call does.

        Returns:
            'inputs', (3, H', W'), resized and not yet normalized, and 'data_samples'.
        """
        values = self._as_array(image)
        with DefaultScope.overwrite_default_scope(self.library):
            return self._prepare({'img': values})

    def _as_array(self, image: Image) -> np.ndarray:
        """Return an image as (H, W, 3), BGR, uint8 or float32."""
        if isinstance(image, (str, Path)):
            return self.read(image)
        if isinstance(image, PIL.Image.Image):
            image = np.asarray(PIL.ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1]
        if not isinstance(image, np.ndarray):
            raise InputError(
                f'an image must be a file, an array or an image of Pillow, got {type(image)}'
                + (', as cv2.imread returns for files that it cannot read' * (image is None))
            )
        values = image.astype(np.float32) if image.dtype == np.float64 else image
        if values.ndim == 2 or values.shape[2:] == (1,):
            values = np.stack([values.reshape(values.shape[:2])] * 3, 2)
        values = values[..., :3] if values.shape[2:] == (4,) else values
        known = values.dtype in (np.uint8, np.float32) and values.shape[2:] == (3,)
        if not known or not values.size:
            raise InputError(
                'an image must be (H, W, 3), BGR, uint8 or float32, '
                f'got {image.shape} {image.dtype}'
            )
        if values.dtype == np.float32 and 0 < values.max() <= 1:
            raise InputError('the values of a float image must be from 0 to 255, got 0 to 1')
        return values

    @torch.no_grad()
    def forward(self, data: Sequence[dict]) -> list[Result]:
        """Predict in one forward pass on results of :meth:`prepare` with equal shapes."""
        batch = {key: [item[key] for item in data] for key in data[0]}
        with DefaultScope.overwrite_default_scope(self.library):
            return [self._result(sample) for sample in self.model.test_step(batch)]

    def _result(self, sample: Any) -> Result:
        if self.library == 'mmseg':
            labels = sample.pred_sem_seg.data[0].cpu().numpy()
            dtype = np.uint8 if len(self.names) < 256 else np.int64
            return Segmentation(labels.astype(dtype), self.names, self.palette)
        found = sample.pred_instances.cpu().numpy()
        masks = Masks.of(found.masks.astype(bool), sample.ori_shape) if 'masks' in found else None
        boxes = found.bboxes
        if masks and not boxes.any():  # models that predict masks alone, such as SOLO
            boxes = masks.boxes
        return Detections(boxes, found.scores, found.labels, self.names, masks)


def type_name(step: dict) -> str:
    """Return the class name of a transform, without its scope."""
    kind = step['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def _find_classes(
    saved: Mapping, metainfo: Mapping, counts: Mapping[str, int]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Find class names and RGB colors in a checkpoint's meta, or else in a data set's metainfo."""
    saved = {str(key).lower(): value for key, value in (saved.get('dataset_meta') or {}).items()}
    source = saved if saved.get('classes') else metainfo
    names = source.get('classes') or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    for key, count in counts.items():
        if count != len(names):
            listed = shorten(', '.join(names), 60, placeholder=' ...') or 'none'
            raise InputError(
                f'{key} is {count}, but checkpoint and config name {len(names)} classes '
                f'({listed}); set test_dataloader.dataset.metainfo.classes'
            )
    colors = source.get('palette')
    if not isinstance(colors, (list, tuple)) or len(colors) < len(names):
        hues = [i * GOLDEN_RATIO % 1 for i in range(len(names))]
        colors = [[255 * value for value in colorsys.hsv_to_rgb(hue, 0.8, 0.9)] for hue in hues]
    return names, np.array(colors[: len(names)], np.uint8).reshape(-1, 3)
