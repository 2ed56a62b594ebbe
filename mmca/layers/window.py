"""Softmax attention in (shifted) windows, Swin's own."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mmca.layers.attention import Attention, StageSpec, check_heads, register_attention
from mmca.layers.chunks import in_chunks
from mmca.layers.global_attention import softmax_weights
from mmca.layers.padding import crop, pad_to_multiple
from mmca.ops.compat import is_compiling
from mmca.ops.layout import check_tokens, to_maps
from mmca.ops.window import window_attention


@register_attention('window')
class WindowAttention(Attention):
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
        defaults = {
            'num_heads': spec.num_heads,
            'window_size': spec.window_size,
            'shift': spec.block % 2 == 1,
            'proj_drop': spec.drop_rate,
        }
        return cls(spec.embed_dims, **{**defaults, **options})

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W.

        Raises:
            InputError: H * W != N, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims)
        grid = self._grid(x, hw_shape)
        layout = self._layout(grid, hw_shape)
        windows = grid.flatten(0, 2)[layout.order].unflatten(0, (-1, self.window_size**2))
        bias, width = self._bias(), self.window_size**2 * 3 * self.embed_dims
        outs, start = [], 0
        for count, mask in layout.masks:
            if count:
                kind = partial(self._attend, bias=bias if mask is None else bias + mask)
                outs.append(in_chunks(kind, windows[start : start + count], width=width))
            start += count
        out = torch.cat(outs).flatten(0, 1)[layout.inverse].view(*grid.shape[:3], -1)
        return self.proj_drop(crop(out, hw_shape))

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        drop = self.attn_drop if self.training else 0.0
        return self.proj(window_attention(self.qkv(windows), bias, drop))

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, num_heads, H, W): zero outside of the query's window."""
        (height, width), size = hw_shape, self.window_size**2
        grid = self._grid(x, hw_shape)
        layout, padded = self._layout(grid[:1], hw_shape), grid.shape[1:3]
        row, column = divmod(token, width)
        window, query = divmod(layout.inverse[row * padded[1] + column].item(), size)
        members = layout.order[window * size : (window + 1) * size]
        bias = self._bias()[:, query]
        for count, mask in layout.masks:
            if window < count:
                bias = bias if mask is None else bias + mask[query]
                break
            window -= count
        tokens = grid.flatten(1, 2)[:, members]
        q, k, _ = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = softmax_weights(q[:, :, query], k, bias)
        out = weights.new_zeros(*weights.shape[:2], math.prod(padded))
        out[..., members] = weights
        return out.unflatten(2, padded)[:, :, :height, :width]

    def _grid(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, H', W', C), padded to whole windows."""
        return pad_to_multiple(to_maps(x, hw_shape), self.window_size).permute(0, 2, 3, 1)

    def _layout(self, grid: Tensor, hw_shape: tuple[int, int]) -> WindowLayout:
        # Without a branch, which would hold for all sizes of an export: 0 for a single window.
        several = torch.sym_min((torch.sym_max(*hw_shape) - 1) // self.window_size, 1)
        shift = self.shift_size * several
        batch, *padded = grid.shape[:3]
        # What is cached while a program is traced would hold tensors without data.
        tracing = is_compiling() or type(grid) is not Tensor
        layout = window_layout if tracing else _cached_window_layout
        return layout(batch, tuple(padded), self.window_size, shift, grid.device)

    def _bias(self) -> Tensor:
        """(h, M^2, M^2), query by key."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


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
    """Which tokens of the images are in which window.

    Attributes:
        order: (n,) int64, index in the flattened (B, H, W) grid of the tokens of the first
            window, then of the second, and so on; windows of one kind follow each other.
        inverse: (n,) int64, the inverse permutation.
        masks: for each kind of window how many there are and the mask of its pairs of tokens,
            (M^2, M^2) of 0 and -inf where the roll brought two distant regions together, or None.
    """

    order: Tensor
    inverse: Tensor
    masks: tuple[tuple[int, Tensor | None], ...]


def window_layout(
    batch: int, hw_shape: tuple[int, int], window_size: int, shift_size: int, device: torch.device
) -> WindowLayout:
    """Where the tokens of each window come from.

    Args:
        batch: B.
        hw_shape: (H, W), multiples of window_size.
        window_size: M.
        shift_size: tokens by which the grid is rolled up and left before it is cut; may be
            symbolic, like the sizes.
        device: of the result.

    Returns:
        The layout. With a shift there are four kinds of windows: those in the last row and
        column of the grid hold tokens of up to four regions that are not adjacent.
    """
    rows, cols = (size // window_size for size in hw_shape)
    images = torch.arange(batch, device=device)[:, None, None] * math.prod(hw_shape)
    y, x = (_rolled(size, shift_size, device) for size in hw_shape)
    grid = images + y[:, None] * hw_shape[1] + x
    windows = grid.view(batch, rows, window_size, cols, window_size).transpose(2, 3)
    if isinstance(shift_size, int) and shift_size == 0:
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
                count = batch * (1 if last_row else rows - 1) * (1 if last_col else cols - 1)
                masks.append((count, mask if last_row or last_col else None))
        order, masks = torch.cat(kinds), tuple(masks)
    index = torch.arange(order.shape[0], device=device)
    return WindowLayout(order, torch.empty_like(order).scatter_(0, order, index), masks)


def _rolled(size: int, shift: int, device: torch.device) -> Tensor:
    """(size,) indices, rolled down by a shift which may be a symbolic size of an export."""
    index = torch.arange(size, device=device) + shift
    return torch.where(index < size, index, index - size)


# Outside of inference mode, so that what is cached serves training, too.
_cached_window_layout = lru_cache(maxsize=32)(torch.inference_mode(False)(window_layout))
