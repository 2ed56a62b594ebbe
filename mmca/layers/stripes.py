"""Softmax attention in cross-shaped stripes, CSwin's own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers.attention import Attention, StageSpec, check_heads, register_attention
from mmca.layers.global_attention import softmax_attention, softmax_weights
from mmca.ops.layout import check_tokens
from mmca.ops.padding import crop

Sides = tuple[int, int]  # of a grid or a window, (H, W)


class Branch(nn.Module):
    """Attention in windows that cut the grid one way, with LePE, `get_v`.

    LePE is a 3 x 3 depth-wise convolution of v inside each window, added to the result
    (arXiv 2107.00652, section 3.3).

    Args:
        embed_dims: C.
        num_heads: heads, divides C.
        width: width of the stripes; None for one window, the whole grid.
        horizontal: whether the stripes are width x W instead of H x width.
        attn_drop: dropout rate of the attention weights.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, width: int | None, horizontal: bool, attn_drop: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.width = width
        self.horizontal = horizontal
        self.attn_drop = attn_drop
        self.get_v = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)

    def forward(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3, C) -> (B, H * W, C)."""
        hw_shape, bias = qkv.shape[1:3], None
        window = self._window(hw_shape)
        before, after = self._padding(hw_shape)
        grid = self._pad(qkv.flatten(3), before, after)
        # The symbolic sizes of an export must not choose a branch.
        if self.width not in (None, 1) and not (isinstance(after, int) and after == 0):
            inside = self._pad(grid.new_ones(*qkv.shape[:3], 1), before, after)
            inside = _cut(inside, window).flatten(1)[:, None, None]
            bias = torch.zeros_like(inside).masked_fill(inside == 0, float('-inf'))
        windows = _cut(grid, window).unflatten(3, (3, -1))
        heads = windows.flatten(1, 2).unflatten(3, (self.num_heads, -1))
        drop = self.attn_drop if self.training else 0.0
        out = softmax_attention(*heads.permute(2, 0, 3, 1, 4), bias, drop)
        # Padding leaves v zero, as the convolution's own padding does at the border of a window.
        lepe = self.get_v(windows[:, :, :, 2].permute(0, 3, 1, 2))
        out = _join(out.unflatten(1, window) + lepe.permute(0, 2, 3, 1), grid.shape[1:3])
        return crop(out, hw_shape, *((before, 0) if self.horizontal else (0, before)))

    def weights(self, qkv: Tensor, token: int) -> Tensor:
        """(B, H, W, 3, C) -> (B, num_heads, H, W): zero outside the query's window."""
        hw_shape = qkv.shape[1:3]
        bias = qkv.new_zeros(hw_shape)
        if self.width is not None:
            axis = 0 if self.horizontal else 1
            places = torch.arange(hw_shape[axis], device=qkv.device) + self._padding(hw_shape)[0]
            far = places // self.width != places[divmod(token, hw_shape[1])[axis]] // self.width
            bias = bias.masked_fill(far[:, None] if self.horizontal else far, float('-inf'))
        q, k, _ = qkv.flatten(1, 2).unflatten(3, (self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = softmax_weights(q[:, :, [token]], k, bias.flatten())
        return weights[:, :, 0].unflatten(2, hw_shape)

    def _window(self, hw_shape: Sides) -> Sides:
        height, width = hw_shape
        if self.width is None:
            return height, width
        return (self.width, width) if self.horizontal else (height, self.width)

    def _padding(self, hw_shape: Sides) -> tuple[int, int]:
        """Tokens before and after the grid that fill it up to whole stripes.

        Half of them go to each side, as in CSwin's segmentation code.
        """
        if self.width is None:
            return 0, 0
        size = hw_shape[0 if self.horizontal else 1]
        missing = (size + self.width - 1) // self.width * self.width - size
        return missing // 2, missing - missing // 2

    def _pad(self, grid: Tensor, before: int, after: int) -> Tensor:
        """Pad (B, H, W, C) by rows or columns of zeros."""
        if isinstance(after, int) and after == 0:
            return grid
        rows = (0, 0, before, after) if self.horizontal else (before, after)
        return F.pad(grid, (0, 0, *rows))


@register_attention('stripes')
class StripesAttention(Attention):
    """Multi-head attention in cross-shaped stripes with LePE (CSwin, arXiv 2107.00652).

    Half of the channels and heads attend in vertical stripes H x width, the others in horizontal
    ones, width x W. A grid that is not a multiple of the width has narrower stripes at its border,
    as if padding tokens were masked. Parameters: `qkv`, `{k}.get_v`, `proj`, k = 0 for vertical
    and 1 for horizontal stripes.

    Args:
        embed_dims: C.
        num_heads: heads, even unless width is None; must divide C.
        width: width of the stripes in tokens. None makes the whole grid one window: a single
            branch with all channels.
        projects: whether it has `qkv` and `proj`, see :class:`mmca.layers.Attention`.
        attn_drop: dropout rate of the attention weights.
        proj_drop: dropout rate of the result.

    Raises:
        InputError: num_heads does not divide embed_dims, or is odd.

    Example:
        >>> import torch
        >>> attn = StripesAttention(64, num_heads=2, width=7)
        >>> attn(torch.randn(2, 12 * 16, 64), hw_shape=(12, 16)).shape
        torch.Size([2, 192, 64])
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        width: int | None = 7,
        projects: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        number = 1 if width is None else 2
        if num_heads % number:
            raise InputError(f'num_heads must be even (half per stripe direction), got {num_heads}')
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.projects = projects
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims) if projects else nn.Identity()
        for k in range(number):
            branch = Branch(embed_dims // number, num_heads // number, width, k == 1, attn_drop)
            self.add_module(str(k), branch)
        self.proj = nn.Linear(embed_dims, embed_dims) if projects else nn.Identity()
        self.proj_drop = nn.Dropout(proj_drop)

    @classmethod
    def from_spec(cls, spec: StageSpec, **options: Any) -> StripesAttention:
        # One for each direction where the family has a single one, as in PVT's first stage.
        heads = spec.num_heads if spec.window_size is None else max(spec.num_heads, 2)
        options = {'num_heads': heads, 'width': spec.window_size, **options}
        return super().from_spec(spec, **options)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W; (B, N, 3C) -> (B, N, C) unless it projects.

        Raises:
            InputError: H * W != N, or the number of channels is another.
        """
        parts = [branch(qkv) for branch, qkv in self._branches(x, hw_shape)]
        return self.proj_drop(self.proj(torch.cat(parts, 2)))

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, num_heads, H, W): the heads of vertical stripes, then those of horizontal ones."""
        parts = [branch.weights(qkv, token) for branch, qkv in self._branches(x, hw_shape)]
        return torch.cat(parts, 1)

    def _branches(self, x: Tensor, hw_shape: tuple[int, int]) -> list[tuple[Branch, Tensor]]:
        """Every branch and its part of q, k, v: (B, H, W, 3, C / branches)."""
        check_tokens(x, hw_shape, (1 if self.projects else 3) * self.embed_dims)
        branches = [module for module in self.children() if isinstance(module, Branch)]
        grid = self.qkv(x).unflatten(1, hw_shape).unflatten(3, (3, -1))
        return list(zip(branches, grid.chunk(len(branches), 4)))


def _cut(grid: Tensor, window: Sides) -> Tensor:
    """(B, n h, m w, C) -> (B n m, h, w, C), windows of h x w."""
    rows, columns = window
    cells = grid.unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
    return cells.transpose(2, 3).flatten(0, 2)


def _join(windows: Tensor, hw_shape: Sides) -> Tensor:
    """(B n m, h, w, C) -> (B, H, W, C), H = n h and W = m w: the inverse of :func:`_cut`."""
    rows, columns = windows.shape[1:3]
    number = hw_shape[0] // rows, hw_shape[1] // columns
    cells = windows.unflatten(0, (-1, *number))
    return cells.transpose(2, 3).flatten(3, 4).flatten(1, 2)
