"""Softmax attention over all tokens, DeiT's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmca.layers.attention import Attention, check_heads, register_attention
from mmca.ops.layout import check_tokens, merge_heads
from mmca.ops.precision import wide_dtype


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

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, T + N, C) -> (B, T + N, C), N = H * W, with T special tokens.

        Raises:
            InputError: there are fewer than H * W tokens, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims, special_tokens=True)
        q, k, v = self._heads(x)
        drop = self.attn_drop if self.training else 0.0
        return self.proj_drop(self.proj(softmax_attention(q, k, v, dropout=drop)))

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, num_heads, H, W); special tokens can receive some of the weight."""
        return self._weights(x, hw_shape, [token])[:, :, 0].unflatten(2, hw_shape)

    def attention_matrix(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, num_heads, N, N) of the tokens of the grid, projected once."""
        return self._weights(x, hw_shape, slice(None))

    def _weights(self, x: Tensor, hw_shape: tuple[int, int], queries: slice | list[int]) -> Tensor:
        """(B, h, queries, N), of tokens of the grid."""
        q, k, _ = self._heads(x)
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        return softmax_weights(q[:, :, special:][:, :, queries], k)[..., special:]

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v: three of (B, h, N, d)."""
        return self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Multi-head softmax(q k^T / sqrt(d) + bias) v.

    Args:
        q: (B, h, N, d).
        k, v: (B, h, M, d).
        bias: broadcasts to (B, h, N, M); can contain -inf.
        dropout: rate at which weights are dropped.

    Returns:
        (B, N, C), C = h * d.
    """
    # The ONNX exporter cannot decompose torch's fused attention with a bias.
    if bias is not None and torch.onnx.is_in_onnx_export():
        out = softmax_weights(q, k, bias).to(v.dtype) @ v
    else:
        bias = None if bias is None else bias.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    return merge_heads(out)


def softmax_weights(q: Tensor, k: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias), (B, h, Q, d), (B, h, M, d) -> (B, h, Q, M), in float32."""
    dtype = wide_dtype(q.dtype)
    return (q.to(dtype) @ k.to(dtype).mT / q.shape[-1] ** 0.5 + bias).softmax(-1)
