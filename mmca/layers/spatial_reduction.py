"""Softmax attention with keys and values of a reduced grid, PVT's own."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmca.layers.attention import Attention, check_heads, register_attention
from mmca.layers.global_attention import softmax_attention, softmax_weights
from mmca.ops.layout import check_tokens, split_heads, to_maps, to_tokens
from mmca.ops.padding import pad_to_minimum


@register_attention('spatial_reduction')
class SpatialReductionAttention(Attention):
    """Multi-head attention with keys and values of a reduced grid (PVT, arXiv 2102.12122, eq. 2).

    Parameters: `q`, `kv`, `sr` and `norm` (where sr_ratio > 1), `proj`.

    Args:
        embed_dims: C.
        num_heads: heads, must divide C.
        sr_ratio: R; an R x R strided convolution of the grid gives keys and values. As in the
            original, rows and columns beyond the last whole R x R cell are dropped.
        attn_drop: dropout rate of the attention weights.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: num_heads does not divide embed_dims.

    Example:
        >>> import torch
        >>> attn = SpatialReductionAttention(64, num_heads=2, sr_ratio=4)
        >>> attn(torch.randn(2, 12 * 16, 64), hw_shape=(12, 16)).shape
        torch.Size([2, 192, 64])
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
        check_heads(embed_dims, num_heads)
        self.embed_dims = embed_dims
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
            InputError: H * W != N, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims)
        q, (k, v) = self._query(x), self._keys_and_values(x, hw_shape)
        drop = self.attn_drop if self.training else 0.0
        return self.proj_drop(self.proj(softmax_attention(q, k, v, dropout=drop)))

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, num_heads, H, W): the weight of each cell, spread evenly over its tokens."""
        return self._weights(x, x[:, token : token + 1], hw_shape)[:, :, 0]

    def attention_matrix(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, num_heads, N, N), projected once."""
        return self._weights(x, x, hw_shape).flatten(3)

    def _weights(self, x: Tensor, queries: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, h, Q, H, W) for Q of the tokens."""
        weights = softmax_weights(self._query(queries), self._keys_and_values(x, hw_shape)[0])
        (height, width), ratio = hw_shape, self.sr_ratio
        cells = weights.unflatten(3, (-1, max(width // ratio, 1)))
        grid = cells.repeat_interleave(ratio, 3).repeat_interleave(ratio, 4) / ratio**2
        rest = (0, max(width - grid.shape[4], 0), 0, max(height - grid.shape[3], 0))
        return F.pad(grid, rest)[..., :height, :width]

    def _query(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, h, N, d)."""
        return split_heads(self.q(x), self.num_heads)

    def _keys_and_values(self, x: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(B, N, C) -> two of (B, h, M, d), M tokens of the reduced grid."""
        if self.sr_ratio > 1:
            grid = pad_to_minimum(to_maps(x, hw_shape), self.sr_ratio)
            x = self.norm(to_tokens(self.sr(grid)))
        return self.kv(x).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
