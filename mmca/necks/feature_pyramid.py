"""A feature pyramid from one map, for FPN-style heads on DeiT."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.registry import MODELS

SCALES = (4, 2, 1, 0.5)  # from stride 16 to strides 4, 8, 16, 32


def _resample(x: Tensor, scale: float) -> Tensor:
    if scale < 1:
        return F.max_pool2d(x, 2, ceil_mode=True)  # a single row or column stays one
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Levels at strides 4, 8, 16, 32 from one map at stride 16.

    Follows ViTDet (arXiv 2203.16527, sec. 3). A level consists of a 1 x 1 convolution, resampling
    (bilinear up, max pooling down) and a 3 x 3 convolution, as in FPN. With ViTDet's transposed
    convolutions and norms, small detectors hardly learn in short schedules.

    Args:
        in_channels: C of the backbone's map.
        out_channels: channels of every level.
        num_outs: number of levels. Levels beyond stride 32 subsample the previous one by 2, as FPN
            does for the RPN.
        start_level: first level, 0 to 3 for stride 4, 8, 16, 32. RetinaNet's strides 8 to 128 are
            start_level=1, num_outs=5.
        init_cfg: initialization of the convolutions, by default FPN's.

    Raises:
        InputError: num_outs < 1, or start_level not from 0 to 3.

    Example:
        >>> import torch
        >>> levels = SimpleFeaturePyramid(192, 64)([torch.zeros(1, 192, 4, 6)])
        >>> [tuple(level.shape[2:]) for level in levels]
        [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        start_level: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        if num_outs < 1:
            raise InputError(f'num_outs must be at least 1, got {num_outs}')
        if start_level not in range(4):
            raise InputError(f'start_level must be from 0 to 3, got {start_level}')
        self.num_outs = num_outs
        self.scales = SCALES[start_level : start_level + num_outs]
        self.lateral_convs = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 1) for _ in self.scales
        )
        self.fpn_convs = nn.ModuleList(
            nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in self.scales
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute `num_outs` levels (B, out_channels, H_i, W_i) from one map (B, C, H, W).

        From `start_level`, H_i is 4H, 2H, H and so on, rounded up; W_i likewise.
        """
        if len(inputs) != 1:
            raise InputError(f'SimpleFeaturePyramid takes one feature map, got {len(inputs)}')
        levels = zip(self.lateral_convs, self.scales, self.fpn_convs)
        outs = [conv(_resample(lateral(inputs[0]), scale)) for lateral, scale, conv in levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
