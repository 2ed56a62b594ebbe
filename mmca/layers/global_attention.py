"""Softmax attention over all tokens, DeiT's own."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmca.layers.attention import Attention, StageSpec, check_heads, register_attention
from mmca.ops.layout import check_tokens


@register_attention('global')
class SelfAttention(Attention):
    """Multi-head attention over all tokens of the grid (DeiT, arXiv 2012.12877), O(N^2).

    Parameters: `qkv`, `proj`.

    Args:
        embed_dims: C.
        num_heads: heads, must divide C.
        attn_drop: dropout rate of the attention weights.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: num_heads does not divide embed_dims.

    Example:
        >>> import torch
        >>> SelfAttention(64, num_heads=2)(torch.randn(2, 15, 64), hw_shape=(3, 5)).shape
        torch.Size([2, 15, 64])
    """

    special_tokens = True

    def __init__(
        self, embed_dims: int, num_heads: int, attn_drop: float = 0.0, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)

    @classmethod
    def from_spec(cls, spec: StageSpec, **options: Any) -> SelfAttention:
        defaults = {'num_heads': spec.num_heads, 'proj_drop': spec.drop_rate}
        return cls(spec.embed_dims, **{**defaults, **options})

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, T + N, C) -> (B, T + N, C), N = H * W, with T special tokens.

        Raises:
            InputError: there are fewer than H * W tokens, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims, special_tokens=True)
        q, k, v = self._heads(x)
        drop = self.attn_drop if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, num_heads, H, W); special tokens may take some of the weight."""
        q, k, _ = self._heads(x)
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        weights = softmax_weights(q[:, :, special + token], k)
        return weights[:, :, special:].unflatten(2, hw_shape)

    def attention_matrix(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, num_heads, N, N) of the tokens of the grid, projected once."""
        q, k, _ = self._heads(x)
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        weights = (q[:, :, special:] @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return weights[..., special:]

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v: three of (B, h, N, d)."""
        return self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def softmax_weights(query: Tensor, k: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) of one query per head.

    Args:
        query: (B, h, d).
        k: (B, h, M, d).
        bias: added to the logits, (h, M) or a number.

    Returns:
        (B, h, M), at least float32.
    """
    query, k = query.float() if query.itemsize < 4 else query, k.float() if k.itemsize < 4 else k
    logits = (k @ query[..., None])[..., 0] / query.shape[-1] ** 0.5
    return (logits + bias).softmax(-1)
