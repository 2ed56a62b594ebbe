"""From images or maps to tokens."""

from __future__ import annotations

from torch import Tensor, nn

from mmca.ops.layout import to_tokens
from mmca.ops.padding import pad_to_minimum, pad_to_multiple


class PatchEmbed(nn.Module):
    """Patches by a strided convolution `proj`, then LayerNorm `norm` where there is one.

    Args:
        in_channels: channels of the image or of the stage before.
        embed_dims: C.
        stride: distance between patches, in pixels.
        overlap: False uses patches of one stride. True uses centered patches of two strides minus
            one (PVTv2, arXiv 2106.13797, section 3.2).
        pad: True zero-pads to whole patches (Swin, DeiT). False drops rows and columns beyond
            the last whole patch (PVT); a map smaller than a patch is padded to one patch.
        norm_eps: eps of the LayerNorm; None for no norm.

    Example:
        >>> import torch
        >>> tokens, hw_shape = PatchEmbed(3, 8, stride=4, pad=True)(torch.zeros(1, 3, 10, 16))
        >>> tokens.shape, hw_shape
        (torch.Size([1, 12, 8]), (3, 4))
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        stride: int,
        overlap: bool = False,
        pad: bool = False,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.pad = pad
        self.min_size = 1 if overlap else stride
        self.stride = stride
        self.proj = nn.Conv2d(
            in_channels,
            embed_dims,
            2 * stride - 1 if overlap else stride,
            stride=stride,
            padding=stride - 1 if overlap else 0,
        )
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(embed_dims, norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C_in, H, W) -> tokens (B, N, C) and their grid (H', W'), N = H' * W'."""
        x = pad_to_multiple(x, self.stride) if self.pad else pad_to_minimum(x, self.min_size)
        x = self.proj(x)
        return self.norm(to_tokens(x)), (x.shape[2], x.shape[3])
