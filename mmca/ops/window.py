"""Softmax attention in windows, with a bias for each pair of positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def window_attention(qkv: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    """Multi-head softmax(q k^T / sqrt(d) + bias) v in windows (arXiv 2103.14030, eq. 4).

    Args:
        qkv: (n, M, 3 C), n windows of M tokens, columns by q / k / v, head, channel.
        bias: (h, M, M) or (n, h, M, M), query by key, h heads; may hold -inf.
        dropout: rate at which weights are dropped.

    Returns:
        (n, M, C) in the dtype of qkv.

    Example:
        >>> window_attention(torch.randn(6, 4, 24), torch.zeros(2, 4, 4)).shape
        torch.Size([6, 4, 8])
    """
    q, k, v = qkv.unflatten(2, (3, bias.shape[-3], -1)).permute(2, 0, 3, 1, 4)
    return biased_attention(q, k, v, bias, dropout).transpose(1, 2).flatten(2)


def biased_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, by torch's fused attention wherever that can be used.

    Args:
        q, k, v: (n, h, M, d).
        bias: broadcasts to (n, h, M, M), query by key; may hold -inf. None for none.
        dropout: rate at which weights are dropped.

    Returns:
        (n, h, M, d).
    """
    bias = None if bias is None else bias.to(q.dtype)
    # The ONNX exporter cannot decompose torch's fused attention with a bias.
    if bias is not None and torch.onnx.is_in_onnx_export():
        return (q * q.shape[-1] ** -0.5 @ k.mT + bias).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
