"""The softmax attentions of DeiT (all tokens), PVT (spatial reduction), Swin (shifted windows)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.ops.circulant import check_tokens


def _check_heads(embed_dims: int, num_heads: int) -> None:
    if num_heads < 1 or embed_dims % num_heads:
        raise InputError(
            f'num_heads must divide embed_dims, got embed_dims={embed_dims}, num_heads={num_heads}'
        )


class SelfAttention(nn.Module):
    """Multi-head attention over all tokens of the grid (DeiT, arXiv 2012.12877), O(N^2).

    Parameters: `qkv`, `proj`.

    Args:
        embed_dims: C.
        num_heads: heads, must divide C.
        attn_drop: dropout rate of the attention weights.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: num_heads does not divide embed_dims.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, attn_drop: float = 0.0, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        _check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W.

        Raises:
            InputError: H * W != N.
        """
        check_tokens(x, hw_shape)
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        drop = self.attn_drop if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))


def pad_to_kernel(x: Tensor, kernel_size: int) -> Tensor:
    """Zero-pad a map on the right and bottom where it is smaller than a kernel.

    Args:
        x: (B, C, H, W).
        kernel_size: the smallest size allowed.

    Returns:
        (B, C, max(H, kernel_size), max(W, kernel_size)).
    """
    height, width = x.shape[2:]
    return F.pad(x, (0, max(kernel_size - width, 0), 0, max(kernel_size - height, 0)))


class SpatialReductionAttention(nn.Module):
    """Multi-head attention with keys and values of a reduced grid (PVT, arXiv 2102.12122, eq. 2).

    Parameters: `q`, `kv`, `sr` and `norm` (where sr_ratio > 1), `proj`.

    Args:
        embed_dims: C.
        num_heads: heads, must divide C.
        sr_ratio: R; keys and values come from an R x R strided convolution of the grid. As in
            the original, rows and columns beyond the last whole R x R cell are left out.
        attn_drop: dropout rate of the attention weights.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: num_heads does not divide embed_dims.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        sr_ratio: int = 1,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        _check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.sr_ratio = sr_ratio
        self.attn_drop = attn_drop
        self.q = nn.Linear(embed_dims, embed_dims)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(embed_dims, embed_dims, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(embed_dims, eps=1e-5)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W.

        Raises:
            InputError: H * W != N.
        """
        check_tokens(x, hw_shape)
        batch, _, channels = x.shape
        q = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        if self.sr_ratio > 1:
            grid = x.mT.reshape(batch, channels, *hw_shape)
            x = self.norm(self.sr(pad_to_kernel(grid, self.sr_ratio)).flatten(2).mT)
        k, v = self.kv(x).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        drop = self.attn_drop if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))


class WindowAttention(nn.Module):
    """Multi-head attention in (shifted) windows with relative positions (Swin, arXiv 2103.14030).

    The grid is zero-padded on the right and bottom to whole windows, as Swin does for detection.
    A grid that fits into one window is one window, without shift.
    Parameters: `qkv`, `relative_position_bias_table` ((2 window_size - 1)^2, num_heads), `proj`.

    Args:
        embed_dims: C.
        num_heads: heads, must divide C.
        window_size: window side in tokens.
        shift: whether the windows are shifted by half a window, on the torus with a mask.
        attn_drop: dropout rate of the attention weights.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: num_heads does not divide embed_dims.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int = 7,
        shift: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        _check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = window_size // 2 if shift else 0
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window_size - 1) ** 2, num_heads)
        )
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer(
            'relative_position_index', relative_position_index(window_size), persistent=False
        )

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W.

        Raises:
            InputError: H * W != N.
        """
        check_tokens(x, hw_shape)
        (height, width), window = hw_shape, self.window_size
        pad_h, pad_w = -height % window, -width % window
        padded = (height + pad_h, width + pad_w)
        shift = 0 if max(hw_shape) <= window else self.shift_size

        x = F.pad(x.unflatten(1, hw_shape), (0, 0, 0, pad_w, 0, pad_h))
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
        rows, cols = padded[0] // window, padded[1] // window
        x = x.unflatten(2, (cols, window)).unflatten(1, (rows, window))
        # (B, rows, window, cols, window, C) -> (B, windows, window^2, C)
        qkv = self.qkv(x.transpose(2, 3).flatten(3, 4).flatten(1, 2))
        q, k, v = qkv.unflatten(3, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if shift:
            mask = shift_mask(padded, window, shift, x.device)
            bias = bias.masked_fill(~mask[:, None], float('-inf'))
        drop = self.attn_drop if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=drop)
        out = self.proj(out.transpose(2, 3).flatten(3))

        out = out.unflatten(2, (window, window)).unflatten(1, (rows, cols)).transpose(2, 3)
        out = out.flatten(3, 4).flatten(1, 2)
        if shift:
            out = out.roll((shift, shift), (1, 2))
        return self.proj_drop(out[:, :height, :width].flatten(1, 2))


def relative_position_index(window_size: int) -> Tensor:
    """Row of the bias table for every pair of tokens of a window.

    Args:
        window_size: M.

    Returns:
        (M^2, M^2) int64: (dy + M - 1) * (2M - 1) + dx + M - 1 for the query minus the key.
    """
    steps = torch.arange(window_size)
    offset = steps[:, None] - steps + window_size - 1
    index = offset[:, None, :, None] * (2 * window_size - 1) + offset[None, :, None, :]
    return index.reshape(window_size**2, window_size**2)


@lru_cache(maxsize=32)
def shift_mask(
    hw_shape: tuple[int, int], window_size: int, shift_size: int, device: torch.device
) -> Tensor:
    """Which pairs of tokens of a shifted window are neighbours in the image.

    Args:
        hw_shape: (H, W), multiples of window_size.
        window_size: M.
        shift_size: tokens by which the grid was rolled up and left.

    Returns:
        (windows, M^2, M^2) bool: False where the roll brought two far regions together.
    """

    def region(size: int) -> Tensor:
        """0 before the last window, 1 in its upper part, 2 in the part that was rolled in."""
        index = torch.arange(size, device=device)
        return (index >= size - window_size).long() + (index >= size - shift_size).long()

    height, width = hw_shape
    ids = region(height)[:, None] * 3 + region(width)
    ids = ids.unflatten(1, (-1, window_size)).unflatten(0, (-1, window_size))
    ids = ids.transpose(1, 2).reshape(-1, window_size**2)
    return ids[:, :, None] == ids[:, None, :]
