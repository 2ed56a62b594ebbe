"""Softmax attention in (shifted) windows, Swin's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmca.layers.attention import Attention, StageSpec, check_heads, register_attention
from mmca.layers.global_attention import softmax_attention, softmax_weights
from mmca.ops.chunks import in_chunks
from mmca.ops.layout import check_tokens, to_maps
from mmca.ops.padding import crop, pad_to_multiple


@register_attention('window', letter='W')
class WindowAttention(Attention):
    """Multi-head attention in (shifted) windows with relative positions (Swin, arXiv 2103.14030).

    The grid is zero-padded on the right and bottom to whole windows, as Swin does for detection.
    If the grid fits into one window, there is one window and no shift.
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

    Example:
        >>> import torch
        >>> attn = WindowAttention(64, num_heads=2, window_size=7, shift=True)
        >>> attn(torch.randn(2, 12 * 16, 64), hw_shape=(12, 16)).shape
        torch.Size([2, 192, 64])
    """

    no_weight_decay = ('relative_position_bias_table',)
    resized_parameters: ClassVar[dict[str, str]] = {'relative_position_bias_table': 'bicubic'}

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
        check_heads(embed_dims, num_heads)
        self.embed_dims = embed_dims
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

    @classmethod
    def from_spec(cls, spec: StageSpec, **options: Any) -> WindowAttention:
        """The defaults are the family's windows, or the pre-training grid as one window."""
        place = {'window_size': spec.window_size or spec.grid_size, 'shift': spec.block % 2 == 1}
        return super().from_spec(spec, **{**place, **options})

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W.

        Raises:
            InputError: H * W != N, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims)
        grid = self._grid(x, hw_shape)
        order, regions = self._windows(grid, hw_shape)
        windows = grid.flatten(1, 2)[:, order.flatten()].unflatten(1, order.shape).flatten(0, 1)
        rows = [windows] if regions is None else [windows, regions.repeat(x.shape[0], 1)]
        attend = partial(self._attend, bias=self._bias())
        width = self.window_size**2 * 3 * self.embed_dims
        out = in_chunks(attend, *rows, width=width).unflatten(0, (x.shape[0], -1))
        out = out.flatten(1, 2)[:, inverse_permutation(order.flatten())].view_as(grid)
        return self.proj_drop(crop(out, hw_shape))

    def _attend(self, windows: Tensor, regions: Tensor | None = None, *, bias: Tensor) -> Tensor:
        if regions is not None:
            far = regions[:, None, :, None] != regions[:, None, None]
            bias = bias.masked_fill(far, float('-inf'))  # (n, h, M^2, M^2)
        drop = self.attn_drop if self.training else 0.0
        return self.proj(softmax_attention(*self._heads(windows), bias, drop))

    @classmethod
    def from_softmax(cls, tensors: Mapping[str, Tensor], spec: StageSpec) -> dict[str, Tensor]:
        """The softmax attention's projections, and its relative position bias or zeros."""
        rows = (2 * (spec.window_size or spec.grid_size) - 1) ** 2
        bias = tensors['proj.weight'].new_zeros(rows, spec.num_heads)
        return {'relative_position_bias_table': bias, **tensors}

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, num_heads, H, W): zero outside the query's window."""
        (height, width), grid = hw_shape, self._grid(x, hw_shape)
        order, regions = self._windows(grid, hw_shape)
        place = token // width * grid.shape[2] + token % width
        window, query = divmod((order.flatten() == place).int().argmax().item(), order.shape[1])
        members, bias = order[window], self._bias()[:, [query]]
        if regions is not None:
            far = regions[window] != regions[window, query]
            bias = bias.masked_fill(far, float('-inf'))
        q, k, _ = self._heads(grid.flatten(1, 2)[:, members])
        out = q.new_zeros(len(x), self.num_heads, math.prod(grid.shape[1:3]))
        out[..., members] = softmax_weights(q[:, :, [query]], k, bias)[:, :, 0]
        return out.unflatten(2, grid.shape[1:3])[:, :, :height, :width]

    def _heads(self, windows: Tensor) -> Tensor:
        """q, k and v of tokens (n, M, C): three of (n, h, M, d)."""
        return self.qkv(windows).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def _grid(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, H', W', C), padded to whole windows."""
        return pad_to_multiple(to_maps(x, hw_shape), self.window_size).permute(0, 2, 3, 1)

    def _windows(self, grid: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """:func:`window_order` of a padded grid; no regions without a shift."""
        # 0 for a single window. A branch would hold for all sizes of an export, and dynamo of
        # torch 2.10 takes no torch.sym_max of plain numbers.
        symbolic = any(isinstance(size, torch.SymInt) for size in hw_shape)
        least, most = (torch.sym_min, torch.sym_max) if symbolic else (min, max)
        several = least((most(*hw_shape) - 1) // self.window_size, 1)
        shift = self.shift_size * several
        order, regions = window_order(grid.shape[1:3], self.window_size, shift, grid.device)
        return order, regions if self.shift_size else None

    def _bias(self) -> Tensor:
        """(h, M^2, M^2), query by key."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


def relative_position_index(window_size: int) -> Tensor:
    """Row of the bias table for every pair of tokens of a window, (M^2, M^2) int64.

    It is (dy + M - 1) * (2M - 1) + dx + M - 1 for the position of the query minus the key's.
    """
    steps = torch.arange(window_size)
    offset = steps[:, None] - steps + window_size - 1
    index = offset[:, None, :, None] * (2 * window_size - 1) + offset[None, :, None, :]
    return index.reshape(window_size**2, window_size**2)


def window_order(
    hw_shape: tuple[int, int], window_size: int, shift: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The tokens of every window, after a roll up and left by `shift`, which may be symbolic.

    Args:
        hw_shape: (H, W), multiples of window_size.
        window_size: M.

    Returns:
        (n, M^2) int64, indices in the flattened grid; and (n, M^2) int64, numbers that differ for
        tokens of a window that the roll brought together.
    """
    y, x = (_rolled(size, shift, device) for size in hw_shape)
    below, right = (torch.arange(size, device=device) >= size - shift for size in hw_shape)
    grid = torch.stack([y[:, None] * hw_shape[1] + x, below[:, None] * 2 + right.long()])
    windows = grid.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))
    order, regions = windows.transpose(2, 3).flatten(3).flatten(1, 2)
    return order, regions


def inverse_permutation(order: Tensor) -> Tensor:
    """(n,) int64 -> (n,) int64."""
    index = torch.arange(order.shape[0], device=order.device)  # len would freeze an export's size
    return torch.empty_like(order).scatter_(0, order, index)


def _rolled(size: int, shift: int, device: torch.device) -> Tensor:
    """(size,) indices, rolled down by a shift which may be a symbolic size of an export."""
    index = torch.arange(size, device=device) + shift
    return torch.where(index < size, index, index - size)
