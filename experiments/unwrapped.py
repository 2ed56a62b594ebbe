"""Circulant attention whose grid does not wrap around, to measure what wrapping costs.

The kernel has a weight for each of (2H - 1) x (2W - 1) displacements, and every query divides by
the sum of the weights that fall into the grid. Importing this registers two attentions, which load
the weights of 'circulant' and 'keyed_circulant'.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmca.layers import register_attention
from mmca.layers.circulant import CirculantAttention
from mmca.layers.keyed_circulant import KeyedCirculantAttention
from mmca.ops.circulant import Scale, correlate, logit_scale
from mmca.ops.layout import to_maps, to_tokens


def unwrapped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hw_shape: tuple[int, int],
    head_dim: int,
    scale: Scale,
    key_logits: Tensor | None = None,
) -> Tensor:
    """O_n = sum_m e^(a_{m-n} + b_m) v_m / sum_m e^(a_{m-n} + b_m), m - n within the grid.

    a_k is the mean of q_n . k_{n+k} over the pairs inside the grid, times scale * N.

    Args, Returns: as for `mmca.ops.circulant_attention`. Computed in float64: the sums of far
    tokens are small differences of transforms.
    """
    dtype, (height, width) = v.dtype, hw_shape
    q = q - q.mean(1, keepdim=True)
    maps = [to_maps(x.double(), hw_shape) for x in (q, k, v)]
    weights = maps[0].new_ones(q.shape[0], 1, height, width)
    if key_logits is not None:
        largest = key_logits.amax(2, keepdim=True)
        weights = (key_logits - largest).double().exp().unflatten(2, hw_shape)
    padding = 0, width - 1, 0, height - 1  # displacements meet zeros instead of the other side
    q, k, v = (F.pad(x, padding).unflatten(1, (-1, head_dim)) for x in maps)
    weights, ones = F.pad(weights, padding), F.pad(torch.ones_like(maps[0][:1, :1]), padding)
    pairs = correlate(ones, ones)
    logits = correlate(q, k).sum(2) / pairs
    logits = logits * (logit_scale(scale, height * width, head_dim) * height * width)
    kernel = (logits - logits.amax((2, 3), keepdim=True)).exp()
    total = correlate(kernel, weights)
    out = correlate(kernel[:, :, None], weights[:, :, None] * v) / total[:, :, None]
    return to_tokens(out.flatten(1, 2)[..., :height, :width]).to(dtype)


@register_attention('unwrapped', letter='U')
class UnwrappedAttention(CirculantAttention):
    """'circulant' without wrapping."""

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, 2)
        out = unwrapped_attention(q, k, v, hw_shape, self.head_dim, self.scale)
        return self.proj(out * self.gate(x))


@register_attention('unwrapped_keyed', letter='V')
class UnwrappedKeyedAttention(KeyedCirculantAttention):
    """'keyed_circulant' without wrapping, gate and special tokens."""

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        q, k, v = self._project(x, 0)
        q, keys = self._logits(q, k)
        return self.proj(unwrapped_attention(q, k, v, hw_shape, self.head_dim, 'paper', keys))
