"""A feature pyramid from a single map, for FPN-style heads on DeiT."""

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.registry import MODELS


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map, (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize every position by itself."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _chain(**modules: nn.Module) -> nn.Sequential:
    """A Sequential with names: recipes find the norms by theirs."""
    return nn.Sequential(OrderedDict(modules))


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Levels at strides 4, 8, 16, 32 from one map at stride 16 (ViTDet, arXiv 2203.16527, sec. 3).

    Each level is resampled by itself, up by transposed 2 x 2 convolutions and down by max pooling;
    a 1 x 1 and a 3 x 3 convolution with LayerNorm then give it `out_channels` channels.

    Args:
        in_channels: C of the backbone's map; must be a multiple of 4.
        out_channels: channels of every level.
        num_outs: levels returned, from `start_level` on. Those beyond stride 32 take each second
            position of the one before, as FPN does for the RPN.
        start_level: the first level returned: 0 to 3 for stride 4, 8, 16, 32. RetinaNet's
            strides 8 to 128 are start_level=1, num_outs=5.
        init_cfg: None; the weights have PyTorch's own initialisation.

    Raises:
        InputError: in_channels is no multiple of 4, num_outs < 1, or start_level not from 0 to 3.

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
        super().__init__(init_cfg)
        if in_channels % 4:
            raise InputError(f'in_channels must be a multiple of 4, got {in_channels}')
        if num_outs < 1:
            raise InputError(f'num_outs must be at least 1, got {num_outs}')
        if start_level not in range(4):
            raise InputError(f'start_level must be from 0 to 3, got {start_level}')
        self.num_outs = num_outs
        half, quarter = in_channels // 2, in_channels // 4
        resamplings = [
            _chain(
                up1=nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                norm=LayerNorm2d(half),
                act=nn.GELU(),
                up2=nn.ConvTranspose2d(half, quarter, 2, stride=2),
            ),
            nn.ConvTranspose2d(in_channels, half, 2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(2, ceil_mode=True),  # a single row or column stays one
        ]
        channels = (quarter, half, in_channels, in_channels)
        kept = slice(start_level, start_level + num_outs)
        self.levels = nn.ModuleList(
            _chain(
                resample=resample,
                conv1=nn.Conv2d(width, out_channels, 1, bias=False),
                norm1=LayerNorm2d(out_channels),
                conv2=nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                norm2=LayerNorm2d(out_channels),
            )
            for resample, width in list(zip(resamplings, channels, strict=True))[kept]
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The levels of a map.

        Args:
            inputs: one map (B, C, H, W) at stride 16, in a tuple as backbones return it.

        Returns:
            `num_outs` maps (B, out_channels, H_i, W_i), of 4H x 4W, 2H x 2W, H x W, and halves
            of that, rounded up; the first `start_level` are left out.

        Raises:
            InputError: more than one map.
        """
        if len(inputs) != 1:
            raise InputError(f'SimpleFeaturePyramid takes one map, got {len(inputs)}')
        outs = [level(inputs[0]) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
