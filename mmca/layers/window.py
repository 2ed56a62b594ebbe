"""The softmax attentions of DeiT (all tokens), PVT (spatial reduction), Swin (shifted windows)."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from mmca.errors import InputError
from mmca.layers.padding import pad_to_minimum, pad_to_multiple
from mmca.ops import window_attention
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
        q = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        if self.sr_ratio > 1:
            grid = x.mT.unflatten(2, hw_shape)
            x = self.norm(self.sr(pad_to_minimum(grid, self.sr_ratio)).flatten(2).mT)
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
        batch, _, channels = x.shape
        (height, width), window = hw_shape, self.window_size
        shift = 0 if max(hw_shape) <= window else self.shift_size
        grid = pad_to_multiple(x.mT.unflatten(2, hw_shape), window).permute(0, 2, 3, 1)
        padded = tuple(grid.shape[1:3])
        layout = window_layout(batch, padded, window, shift, x.device)

        tokens = _Reorder.apply(grid.flatten(0, 2), layout.order, layout.inverse)
        out = window_attention(
            tokens.view(-1, window**2, channels),
            *(self.qkv.weight, self.qkv.bias, self.proj.weight, self.proj.bias),
            self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1),
            layout.masks,
            self.attn_drop if self.training else 0.0,
        ).flatten(0, 1)
        out = _Reorder.apply(out, layout.inverse, layout.order).view(batch, *padded, -1)
        return self.proj_drop(out[:, :height, :width].flatten(1, 2))


class _Reorder(torch.autograd.Function):
    """Rows (n, C) in another order; the gradient goes back by the inverse, without a scatter."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        order, inverse = ctx.saved_tensors
        return _Reorder.apply(grad, inverse, order), None, None


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


class WindowLayout(NamedTuple):
    """How the tokens of images lie in windows.

    Attributes:
        order: (n,) int64, index in the flattened (B, H, W) grid of the tokens of the first
            window, then of the second, and so on; windows of one kind follow each other.
        inverse: (n,) int64, the way back.
        masks: for each kind of window how many there are and the mask of its pairs of tokens,
            (M^2, M^2) of 0 and -inf where the roll brought two far regions together, or None.
    """

    order: Tensor
    inverse: Tensor
    masks: tuple[tuple[int, Tensor | None], ...]


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is cached must serve training too
def window_layout(
    batch: int, hw_shape: tuple[int, int], window_size: int, shift_size: int, device: torch.device
) -> WindowLayout:
    """Where the tokens of each window come from.

    Args:
        batch: B.
        hw_shape: (H, W), multiples of window_size.
        window_size: M.
        shift_size: tokens by which the grid is rolled up and left before it is cut.
        device: where the result lies.

    Returns:
        The layout. With a shift there are four kinds of windows: those in the last row and
        column of the grid hold tokens of up to four regions that are no neighbours.
    """
    rows, cols = (size // window_size for size in hw_shape)
    grid = torch.arange(batch * math.prod(hw_shape), device=device).view(batch, *hw_shape)
    grid = grid.roll((-shift_size, -shift_size), (1, 2))
    windows = grid.view(batch, rows, window_size, cols, window_size).transpose(2, 3)
    if shift_size == 0:
        order, masks = windows.flatten(), ((batch * rows * cols, None),)
    else:
        cut = torch.arange(window_size, device=device) >= window_size - shift_size
        kinds, masks = [], []
        for last_row in (False, True):
            for last_col in (False, True):
                down = slice(rows - 1, None) if last_row else slice(rows - 1)
                right = slice(cols - 1, None) if last_col else slice(cols - 1)
                kinds.append(windows[:, down, right].flatten())
                region = (cut * last_row)[:, None] * 2 + cut * last_col
                far = region.flatten()[:, None] != region.flatten()
                mask = torch.zeros(far.shape, device=device).masked_fill(far, float('-inf'))
                masks.append(
                    (len(kinds[-1]) // window_size**2, mask if last_row or last_col else None)
                )
        order, masks = torch.cat(kinds), tuple(masks)
    return WindowLayout(order, order.argsort(), masks)
