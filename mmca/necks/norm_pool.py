"""Pooling for classifiers whose backbone has no final norm."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmca.registry import MODELS


@MODELS.register_module()
class NormPool(BaseModule):
    """LayerNorm of all tokens, then their mean, as in PVT's classifiers.

    Args:
        in_channels: C of the backbone's last map.
        init_cfg: None.

    Example:
        >>> import torch
        >>> NormPool(8)([torch.zeros(2, 8, 3, 5)])[0].shape
        torch.Size([2, 8])
    """

    def __init__(self, in_channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        """Pool the last of the maps (B, C_i, H_i, W_i) to (B, C), in a tuple for mmpretrain."""
        return (self.norm(inputs[-1].flatten(2).mT).mean(1),)
