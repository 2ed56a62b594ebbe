"""Exact attention to and from special tokens, such as a class token, beside attention in a grid."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmca.ops.layout import merge_heads, split_heads
from mmca.ops.precision import wide_dtype, without_autocast


def special_logits(q: Tensor, k: Tensor, special: int) -> Tensor:
    """Logits of the grid's queries and the keys of the first T tokens.

    Args:
        q, k: (B, h, T + N, d).
        special: T.

    Returns:
        (B, h, N, T), at least float32.
    """
    dtype = wide_dtype(q.dtype)
    with without_autocast(q.device):
        q, k = q[:, :, special:].to(dtype), k[:, :, :special].to(dtype)
        return q @ k.mT * q.shape[3] ** -0.5


def join_special(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor) -> Tensor:
    """Join attention within a grid with exact attention to and from the tokens before it.

    Args:
        q, k, v: (B, T + N, C), of the T special tokens and the grid's N.
        out: (B, N, C), the attention within the grid.
        lse: (B, h, N), the logarithms of its sums of exp(logits).

    Returns:
        (B, T + N, C).
    """
    special = q.shape[1] - out.shape[1]
    if not special:
        return out
    q, k, v = (split_heads(x, lse.shape[1]) for x in (q, k, v))
    logits = torch.cat([lse[..., None], special_logits(q, k, special)], 3)
    weights = logits.softmax(3).to(v.dtype)
    grid = weights[..., :1] * split_heads(out, lse.shape[1])
    grid = grid + weights[..., 1:] @ v[:, :, :special]
    first = F.scaled_dot_product_attention(q[:, :, :special], k, v)
    return merge_heads(torch.cat([first, grid], 2))
