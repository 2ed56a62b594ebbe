"""The exported part of a trained model."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.inference.predictor import Predictor
from mmca.ops.padding import pad_to_multiple

PROBE = 256  # side of an image, a multiple of all strides
DETECTOR_HEADS = ('rpn_head', 'roi_head', 'bbox_head')


class ExportGraph(nn.Module):
    """Images -> logits and labels of a segmentor, objects or feature maps of a detector.

    The graph begins with the config's data preprocessor: channel order, mean and standard
    deviation, and zero padding at the right and bottom up to a multiple of its size divisor. A
    segmentor's logits have the size of the image again.

    Args:
        predictor: its model is copied.
        whole: include a detector's heads, see :class:`mmca.export.detector.DetectorHeads`.

    Attributes:
        contents: names of the exported parts of the model.
        left_out: names of the other parts.
        outputs: names of the outputs.
        strides: strides of a detector's feature maps.
        size_divisor: images are padded to multiples of it.

    Raises:
        InputError: the segmentor is more than a backbone, a neck and one head on whole images, or
            the detector's heads cannot be exported.
    """

    def __init__(self, predictor: Predictor, whole: bool = False) -> None:
        super().__init__()
        model, settings = predictor.model, predictor.cfg.model.data_preprocessor
        if predictor.library == 'mmseg':
            _check_segmentor(model)
        self.backbone = copy.deepcopy(model.backbone)
        self.neck = copy.deepcopy(model.neck) if model.with_neck else None
        self.head = copy.deepcopy(getattr(model, 'decode_head', None))
        self.detector = None
        if whole:
            from mmca.export.detector import DetectorHeads  # needs a torch that can export

            self.detector = DetectorHeads(model)
        # mmdet's key, else the one that mmseg uses in a test
        test_settings = settings.get('test_cfg') or {}
        divisor = settings.get('pad_size_divisor') or test_settings.get('size_divisor')
        self.size_divisor = divisor or 1
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
        self.outputs, self.strides = ('logits', 'labels'), ()
        if self.detector is not None:
            self.contents, self.left_out = self.contents + self.left_out, ()
            self.outputs = self.detector.outputs
        elif self.head is None:
            with torch.no_grad():
                maps = self(torch.zeros(1, 3, PROBE, PROBE))
            self.strides = tuple(PROBE // one.shape[2] for one in maps)
            self.outputs = tuple(f'stride_{stride}' for stride in self.strides)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images, (B, 3, H, W), RGB from 0 to 255, float32 or, after `half()`, float16.

        Returns:
            For a segmentor (B, K, H, W) logits and (B, H, W) int64 labels; for a whole detector
            the objects of one image; else the feature maps of the neck or, without one, the
            backbone.
        """
        x = images.flip(1) if self._reverse else images
        x = ((x.float() - self.mean.float()) / self.std.float()).to(images.dtype)
        x = pad_to_multiple(x, self.size_divisor)
        maps = self.backbone(x)
        maps = maps if self.neck is None else self.neck(maps)
        if self.detector is not None:
            return self.detector(maps, images.shape[2:])
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
    # Symbolic sizes of an export: a slice would branch on whether it is contiguous.
    for axis, size in ((2, height), (3, width)):
        logits = logits.index_select(axis, torch.arange(size, device=logits.device))
    return logits


def _for_any_size(module: nn.Module) -> nn.Module:
    """Replace a module whose export would fix the size of the image."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return PoolByProducts(module.output_size)
    # mmseg's Upsample converts the product of a size and its factor to int.
    if type(module).__name__ == 'Upsample' and not module.size:
        return nn.Upsample(None, module.scale_factor, module.mode, module.align_corners)
    return module


def _check_segmentor(model: nn.Module) -> None:
    name, mode = type(model).__name__, model.test_cfg.get('mode', 'whole')
    if name != 'EncoderDecoder' or model.decode_head.out_channels == 1:
        raise InputError(f'cannot export {name}: only an EncoderDecoder with at least two logits')
    if mode != 'whole':
        raise InputError(
            f'model.test_cfg.mode is {mode!r}, but exported files process whole images: '
            'add --cfg-options model.test_cfg.mode=whole'
        )


class PoolByProducts(nn.Module):
    """Adaptive average pooling as two matrix products; ONNX only has it for fixed sizes."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, S, S)."""
        rows, columns = (self._means(size, x) for size in x.shape[2:])
        return rows @ x @ columns.mT

    def _means(self, size: int, like: Tensor) -> Tensor:
        """(S, size): the weights of each bin; its start is rounded down and its end up."""
        bins = torch.arange(self.output_size, device=like.device)[:, None]
        position = torch.arange(size, device=like.device)
        start = bins * size // self.output_size
        end = ((bins + 1) * size + self.output_size - 1) // self.output_size
        inside = ((position >= start) & (position < end)).to(like.dtype)
        return inside / inside.sum(1, keepdim=True)
