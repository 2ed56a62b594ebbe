"""A trained model that predicts on images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmca.errors import InputError
from mmca.inference.classes import dataset_of, dataset_settings, find_classes
from mmca.inference.results import Detections, Segmentation

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

Image = str | Path | np.ndarray
Result = Detections | Segmentation


class Predictor:
    """A trained detector or segmentor. Its results are those of `mmca test`.

    The inferencers of mmdet and mmseg are not used: they unpickle checkpoints, read files by
    other settings than the config's, and build backbones without the position embedding which
    a circulant DeiT keeps of its first weights.

    Args:
        config: a file, or the name of a shipped config.
        checkpoint: a .pth file that training wrote; nothing in it is executed.
        device: such as 'cpu' or 'cuda:1'; default 'cuda' where there is a GPU, else 'cpu'.
        cfg_options: KEY=VALUE strings that change the config.

    Attributes:
        library: 'mmdet' or 'mmseg'.
        names: of the classes, from the checkpoint or else from the config.
        palette: (K, 3), uint8, RGB, a color for each of the K classes.
        dataset: what the config tests on; none of its files is read.
        cfg: the config.
        model: in evaluation mode.
        device: where it is.

    Raises:
        InputError: a broken config, a classifier's config, a damaged checkpoint or one of another
            model, no such device.

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
    ) -> None:
        from mmengine.registry import DefaultScope

        from mmca.config.building import explain_building
        from mmca.config.packages import import_datasets
        from mmca.config.reader import library_of, load_config
        from mmca.engine.safe_loading import load_from_local
        from mmca.config.models import class_counts

        config, checkpoint = str(config), str(checkpoint)
        self.device = find_device(device)
        self.cfg = load_config(config, cfg_options)
        self.library = library_of(self.cfg, config)
        if self.library == 'mmpretrain':
            raise InputError(f'{config} is of a classifier; name one of a detector or segmentor')
        for key in ('model', 'test_dataloader'):
            if not self.cfg.get(key):
                raise InputError(f'config {config} has no {key}, which is needed here')
        import_datasets(self.library)
        content = load_from_local(checkpoint, 'cpu')
        try:
            with DefaultScope.overwrite_default_scope(self.library):
                self.dataset = dataset_of(self.cfg)
                self._load, self._steps = _build_pipeline(self.cfg, config)
                self.model = _build_model(self.cfg, checkpoint, content).to(self.device).eval()
        except Exception as error:
            line = explain_building(error, self.cfg)
            if line is None:
                raise
            raise InputError(f'config {config}, {line}') from error
        counts = class_counts(self.cfg.model, self.library)
        self.names, self.palette = find_classes(content, self.dataset, counts)

    def read(self, path: str | Path) -> np.ndarray:
        """Read an image file as `mmca test` reads it.

        Args:
            path: of the file.

        Returns:
            (H, W, 3), BGR, uint8 (float32 where the config loads images so).

        Raises:
            InputError: it is absent, no image, or damaged.
        """
        from mmca.checks.images import explain, read_header

        path = str(path)
        if not Path(path).is_file():
            raise InputError(f'no such image: {path}')
        try:
            read_header(path)  # which finds truncated files, where OpenCV fills up the rest
            return self._load({'img_path': path})['img']
        except InputError:
            raise
        except OSError as error:
            raise InputError(f'cannot read {path}: {error.strerror or error}') from error
        except Exception as error:
            raise InputError(f'cannot read {path}: {explain(path, error)}') from error

    def __call__(
        self, images: Image | Sequence[Image], batch_size: int = 1
    ) -> Result | list[Result]:
        """Predict.

        Args:
            images: a file or an array (H, W, 3), BGR from 0 to 255, uint8 or float32; or a list.
            batch_size: the most images in one forward pass. Images are not padded to a common
                size: those of another size get a pass of their own.

        Returns:
            The result, or a list of them for a list.

        Raises:
            InputError: an image cannot be read, or is an array of another kind.
        """
        if batch_size < 1:
            raise InputError(f'batch_size must be 1 or more, got {batch_size}')
        if not isinstance(images, (list, tuple)):
            return self([images])[0]
        results = []
        for start in range(0, len(images), batch_size):
            results += self._predict(images[start : start + batch_size])
        return results

    def _predict(self, images: Sequence[Image]) -> list[Result]:
        results: list = [None] * len(images)
        data = [self.prepare(image) for image in images]
        groups: dict[tuple, list[int]] = {}
        for index, item in enumerate(data):
            groups.setdefault(tuple(item['inputs'].shape), []).append(index)
        for group in groups.values():
            found = self.forward([data[index] for index in group])
            for index, result in zip(group, found, strict=True):
                results[index] = result
        return results

    def prepare(self, image: Image) -> dict:
        """Run the test pipeline on an image.

        Args:
            image: a file or an array, as for a call.

        Returns:
            'inputs', (3, H', W'), resized and not normalized yet, and 'data_samples'.

        Raises:
            InputError: it cannot be read, or is an array of another kind.
        """
        from mmengine.registry import DefaultScope

        values = image if isinstance(image, np.ndarray) else self.read(image)
        if values.ndim != 3 or values.shape[2] != 3 or values.dtype not in (np.uint8, np.float32):
            raise InputError(
                'an image must be (H, W, 3), BGR, uint8 or float32, '
                f'got {values.shape} {values.dtype}'
            )
        if 0 in values.shape:
            raise InputError(f'an image must not be empty, got {values.shape}')
        shape = values.shape[:2]
        # What LoadImageFromFile and the data set would say of it.
        data = {'img': values, 'img_shape': shape, 'ori_shape': shape, 'img_path': None}
        data |= {'height': shape[0], 'width': shape[1], 'img_id': 0}
        with DefaultScope.overwrite_default_scope(self.library):
            return self._steps(data)

    @torch.no_grad()
    def forward(self, data: Sequence[dict]) -> list[Result]:
        """Predict in one forward pass.

        Args:
            data: from :meth:`prepare`, with inputs of one shape.

        Returns:
            The results.
        """
        from mmengine.registry import DefaultScope

        batch = {key: [item[key] for item in data] for key in ('inputs', 'data_samples')}
        with DefaultScope.overwrite_default_scope(self.library):
            return [self._result(sample) for sample in self.model.test_step(batch)]

    def _result(self, sample: Any) -> Result:
        if self.library == 'mmseg':
            labels = sample.pred_sem_seg.data[0].cpu().numpy()
            small = len(self.names) < 256
            return Segmentation(
                labels.astype(np.uint8 if small else np.int64), self.names, self.palette
            )
        found = sample.pred_instances.cpu()
        masks = found.masks.numpy().astype(bool) if 'masks' in found else None
        boxes, scores = found.bboxes.numpy(), found.scores.numpy()
        return Detections(boxes, scores, found.labels.numpy(), self.names, masks)


def find_device(name: str | None) -> torch.device:
    """A device that is there.

    Args:
        name: such as 'cpu' or 'cuda:1'; None for 'cuda' where there is a GPU, else 'cpu'.

    Returns:
        The device.

    Raises:
        InputError: there is no such device here.
    """
    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        raise InputError(f'no device {name!r} here, there is {", ".join(there)}') from error
    return device


def _build_model(cfg: Config, checkpoint: str, content: dict) -> nn.Module:
    """Build the model of a config, with the weights of a checkpoint."""
    from mmengine.registry import MODELS
    from mmengine.runner.checkpoint import _load_checkpoint_to_model

    from mmca.checks.checkpoint import check_checkpoint

    settings = copy.deepcopy(cfg.model)
    backbone = settings.get('backbone') or {}
    if (backbone.get('init_cfg') or {}).get('type') == 'Pretrained':
        # What backbones take from their first weights is in the trained ones as well, and the
        # file of the first weights need not be on this machine.
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint)
    model = MODELS.build(settings)
    check_checkpoint(checkpoint, model, 'test')
    _load_checkpoint_to_model(model, content)
    return model


def _build_pipeline(cfg: Config, config: str) -> tuple[Any, Any]:
    """The test pipeline's step that reads a file, and the rest without annotations."""
    from mmengine.dataset import Compose
    from mmengine.registry import TRANSFORMS

    pipeline = dataset_settings(cfg).get('pipeline') or [{}]
    if type_name(pipeline[0]) != 'LoadImageFromFile':
        raise InputError(
            f'config {config}: the test pipeline must begin with LoadImageFromFile, '
            f'got {type_name(pipeline[0]) or "no pipeline"}'
        )
    steps = [step for step in pipeline[1:] if 'Annotation' not in type_name(step)]
    return TRANSFORMS.build(pipeline[0]), Compose(steps)


def type_name(step: dict) -> str:
    """The name of a transform's class, without its scope."""
    kind = step.get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
