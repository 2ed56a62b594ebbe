"""The part of a trained model that an exported file holds."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers.padding import pad_to_multiple

if TYPE_CHECKING:
    from mmca.inference.predictor import Predictor

PROBE = 256  # side of an image, a multiple of all strides
DETECTOR_HEADS = ('rpn_head', 'roi_head', 'bbox_head')


class ExportGraph(nn.Module):
    """Images -> logits and labels of a segmentor, or the feature maps of a detector.

    The steps of the config's data preprocessor come first: the order of channels, the mean and
    standard deviation, and zeros on the right and bottom up to a multiple of its size divisor. A
    segmentor's logits have the size of the image again.

    Args:
        predictor: its model is copied.

    Attributes:
        contents: the parts of the model that are in the graph.
        outputs: their names.
        strides, channels: of the maps.
        left_out: the parts of the model that are not in the graph.
        size_divisor: the sides of the images are padded to a multiple of it.

    Raises:
        InputError: a model that is computed in another way than by backbone, neck and one head.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        model, settings = predictor.model, predictor.cfg.model.data_preprocessor
        self.head = None
        if predictor.library == 'mmseg':
            _check_segmentor(predictor)
            self.head = copy.deepcopy(model.decode_head)
        self.backbone = copy.deepcopy(model.backbone)
        self.neck = copy.deepcopy(model.neck) if model.with_neck else None
        self.size_divisor = _size_divisor(settings)
        # Images are RGB here, and BGR before the config's preprocessor.
        self._reverse = not (settings.get('bgr_to_rgb') or settings.get('rgb_to_bgr'))
        for name, default in (('mean', 0.0), ('std', 1.0)):
            values = torch.tensor(settings.get(name) or [default] * 3, dtype=torch.float32)
            self.register_buffer(name, values[:, None, None])
        for module in list(self.modules()):
            for name, child in module.named_children():
                setattr(module, name, _for_any_size(child))
        parts = {'backbone': self.backbone, 'neck': self.neck, 'decode_head': self.head}
        self.contents = tuple(name for name, part in parts.items() if part is not None)
        self.left_out = tuple(name for name in DETECTOR_HEADS if hasattr(model, name))
        self.outputs, self.strides, self.channels = ('logits', 'labels'), (), ()
        if self.head is None:
            with torch.no_grad():
                maps = self(torch.zeros(1, 3, PROBE, PROBE))
            self.strides = tuple(PROBE // one.shape[2] for one in maps)
            self.channels = tuple(one.shape[1] for one in maps)
            self.outputs = tuple(f'stride_{stride}' for stride in self.strides)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the graph.

        Args:
            images: (B, 3, H, W), RGB from 0 to 255, float32 or, after `half()`, float16.

        Returns:
            Of a segmentor (B, K, H, W) logits and (B, H, W) int64 labels; of a detector the maps
            of the neck, or of the backbone where there is none.
        """
        x = images.flip(1) if self._reverse else images
        x = ((x.float() - self.mean.float()) / self.std.float()).to(images.dtype)
        x = pad_to_multiple(x, self.size_divisor)
        maps = self.backbone(x)
        maps = maps if self.neck is None else self.neck(maps)
        if self.head is None:
            return tuple(maps)
        logits = F.interpolate(
            self.head(maps), x.shape[2:], mode='bilinear', align_corners=self.head.align_corners
        )
        logits = _crop(logits, *images.shape[2:])
        return logits, logits.argmax(1)


def _crop(logits: Tensor, height: int, width: int) -> Tensor:
    """(B, K, H', W') -> (B, K, H, W), without the padding."""
    if isinstance(height, int) and isinstance(width, int):
        return logits[:, :, :height, :width]
    # For the symbolic sizes of an export: whether a slice is contiguous would choose a branch.
    for axis, size in ((2, height), (3, width)):
        logits = logits.index_select(axis, torch.arange(size, device=logits.device))
    return logits


def _for_any_size(module: nn.Module) -> nn.Module:
    """The same function for what an export would fix to the size of its example."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return _PoolByProducts(module.output_size)
    # That of mmseg takes int() of a product with its factor.
    if type(module).__name__ == 'Upsample' and not module.size:
        return nn.Upsample(None, module.scale_factor, module.mode, module.align_corners)
    return module


def _size_divisor(settings: dict) -> int:
    """The multiple to which a data preprocessor pads images in a test."""
    if settings.get('pad_size_divisor'):  # mmdet
        return settings['pad_size_divisor']
    return (settings.get('test_cfg') or {}).get('size_divisor') or 1  # mmseg


def _check_segmentor(predictor: Predictor) -> None:
    model, cfg = predictor.model, predictor.cfg.model
    if type(model).__name__ != 'EncoderDecoder':
        raise InputError(
            f'model.type {cfg.type} cannot be exported, only EncoderDecoder can among segmentors'
        )
    mode = (cfg.get('test_cfg') or {}).get('mode', 'whole')
    if mode != 'whole':
        raise InputError(
            f'model.test_cfg.mode is {mode!r}, but a file takes whole images: '
            'add --cfg-options model.test_cfg.mode=whole'
        )
    if model.decode_head.out_channels == 1:
        raise InputError(
            'model.decode_head.out_channels is 1 (a threshold), but labels are exported as the '
            'argmax of two logits or more'
        )


class _PoolByProducts(nn.Module):
    """Adaptive average pooling as two matrix products, since ONNX has it for fixed sizes only.

    Args:
        output_size: of the result, one number for both sides.
    """

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, S, S)."""
        rows, columns = (self._means(size, x) for size in x.shape[2:])
        return rows @ x @ columns.mT

    def _means(self, size: int, like: Tensor) -> Tensor:
        """(S, size): the weights of each bin, which reaches from floor to ceil."""
        bins = torch.arange(self.output_size, device=like.device)[:, None]
        position = torch.arange(size, device=like.device)
        start = bins * size // self.output_size
        end = ((bins + 1) * size + self.output_size - 1) // self.output_size
        inside = ((position >= start) & (position < end)).to(like.dtype)
        return inside / inside.sum(1, keepdim=True)
