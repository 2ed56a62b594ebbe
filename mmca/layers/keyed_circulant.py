"""Circulant attention with keys: softmax attention projected on a kernel and a weight per key."""

from collections.abc import Mapping
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmca.layers.attention import Attention, StageSpec, check_heads, register_attention
from mmca.layers.circulant import GATE_ONE
from mmca.layers.special_tokens import join_special, special_logits
from mmca.ops import circulant_attention, circulant_kernel
from mmca.ops.dft import dft_macs, matrix_macs
from mmca.ops.layout import check_tokens, split_heads
from mmca.ops.naive import bccb
from mmca.ops.precision import wide_dtype, without_autocast

KERNEL_GAINS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5)  # that calibration chooses from
KEY_GAINS = (0.0, 0.25, 0.5, 0.75, 1.0)


@register_attention('keyed_circulant', letter='K')
class KeyedCirculantAttention(Attention):
    """Softmax attention with the nearest logits of the form a_{m-n} + b_m, O(N log N).

    The logits L = Q K^T / sqrt(d) of softmax attention are replaced by their Frobenius projection
    on the sums of a block-circulant matrix, of a matrix with equal rows and of one with equal
    columns, which softmax ignores:

        a_k = mean_n L[n, n + k]   (arXiv 2512.21542, eq. 15, with all d channels of a head)
        b_m = mean_n L[n, m] = mean_n(q_n) . k_m / sqrt(d)
        O = (e^{g_a a} (*) (e^{g_b b} V)) / (e^{g_a a} (*) e^{g_b b})

    With softmax weights, it therefore starts as the projection of the softmax attention. Early
    blocks of a trained transformer are mostly circulant; in late ones, all queries attend to the
    same keys.

    Parameters: `qkv` with its bias, `proj`, `gains` (num_heads, 2) for g_a and g_b, and `gate.0` if
    there is a gate. Special tokens, such as a class token, can precede the grid tokens; attention
    to and from them is exact softmax attention, O(N). In PVT and Swin, it replaces spatial
    reduction and windows with attention over all grid tokens. There it starts with the same linear
    projections, but not as the nearest matrix.

    Args:
        embed_dims: C.
        num_heads: h, must divide C; d = C / h.
        gate: whether the output is multiplied by SiLU(x W_T), as in circulant attention.
        cpe: whether the block has the 3 x 3 positional convolution.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: num_heads does not divide embed_dims.

    Example:
        >>> import torch
        >>> from mmca.layers import KeyedCirculantAttention
        >>> attn = KeyedCirculantAttention(embed_dims=64, num_heads=2)
        >>> attn(torch.randn(2, 1 + 50 * 76, 64), hw_shape=(50, 76)).shape
        torch.Size([2, 3801, 64])
    """

    no_weight_decay = ('gains',)
    signature: ClassVar[str] = 'gains'
    method: ClassVar[str] = 'KCA-'
    replaces_softmax = True
    special_tokens = True

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        gate: bool = False,
        cpe: bool = False,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.head_dim = embed_dims // num_heads
        self.uses_cpe = cpe
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.gains = nn.Parameter(torch.ones(num_heads, 2))
        self.gate = nn.Sequential(nn.Linear(embed_dims, embed_dims), nn.SiLU()) if gate else None
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, T + N, C) -> (B, T + N, C), N = H * W, with T special tokens.

        Raises:
            InputError: there are fewer than H * W tokens, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims, special_tokens=True)
        return self.proj_drop(self.proj(self._attend(x, hw_shape)))

    def _attend(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """All but the output projection, (B, T + N, C)."""
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        q, k, v = self._project(x, special)
        grid_q, keys = self._logits(q[:, special:], k[:, special:])
        grid = grid_q, k[:, special:], v[:, special:]
        out, lse = circulant_attention(
            *grid, hw_shape, self.head_dim, 'paper', key_logits=keys, return_lse=True
        )
        out = join_special(q, k, v, out, lse)
        return out if self.gate is None else out * self.gate(x)

    def _project(self, x: Tensor, special: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, (B, T + N, C). The grid's keys have zero mean, which softmax ignores."""
        q, k, v = self.qkv(x).chunk(3, 2)
        return q, k - k[:, special:].mean(1, keepdim=True), v

    def _logits(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """The grid's q times g_a, (B, N, C), and its key logits g_b b, (B, h, N)."""
        dtype = wide_dtype(q.dtype)
        with without_autocast(q.device):
            kernel_gain, key_gain = self.gains.to(dtype).unbind(1)
            mean_q = split_heads(q.mean(1, keepdim=True, dtype=dtype), self.num_heads)
            key_logits = (mean_q @ split_heads(k.to(dtype), self.num_heads).mT)[:, :, 0]
            key_logits = key_logits * self.head_dim**-0.5
            q = q.unflatten(2, (self.num_heads, -1)) * kernel_gain[:, None].to(q.dtype)
            return q.flatten(2), key_logits * key_gain[:, None]

    @classmethod
    def from_softmax(cls, tensors: Mapping[str, Tensor], spec: StageSpec) -> dict[str, Tensor]:
        """The softmax attention's projections, biases included: the projection of its logits."""
        weight = tensors['proj.weight']
        return {
            **tensors,
            'gains': weight.new_ones(spec.num_heads, 2),
            'gate.0.weight': torch.zeros_like(weight),
            'gate.0.bias': weight.new_full((len(weight),), GATE_ONE),
        }

    @torch.no_grad()
    def calibrate(self, x: Tensor, hw_shape: tuple[int, int], target: Tensor) -> None:
        """Choose the gains of every head from a grid, head by head, twice."""
        choices, found = list(product(KERNEL_GAINS, KEY_GAINS)), []
        for choice in choices:
            self.gains.copy_(self.gains.new_tensor(choice))
            found.append(self._attend(x, hw_shape).unflatten(2, (self.num_heads, -1)))
        weights = self.proj.weight.unflatten(1, (self.num_heads, -1))
        best = [choices.index((1.0, 1.0))] * self.num_heads
        for head in [*range(self.num_heads)] * 2:
            others = [found[b][:, :, i] @ weights[:, i].mT for i, b in enumerate(best) if i != head]
            rest = target - self.proj.bias - sum(others)
            errors = [(rest - out[:, :, head] @ weights[:, head].mT).norm() for out in found]
            best[head] = int(torch.stack(errors).argmin())
        self.gains.copy_(self.gains.new_tensor([choices[b] for b in best]))

    def extra_macs(self, hw_shape: tuple[int, int]) -> int:
        """The transforms and spectral products."""
        return dft_macs(hw_shape[0] * hw_shape[1], self.embed_dims, self.head_dim, keys=True)

    def exported_macs(self, hw_shape: tuple[int, int]) -> int:
        """The same as products with DFT matrices."""
        return matrix_macs(hw_shape, self.embed_dims, self.head_dim, keys=True)

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, h, H, W); special tokens can precede the grid tokens and receive some weight."""
        kernel, keys, special = self._parts(x, hw_shape)
        logits = kernel.roll(divmod(token, hw_shape[1]), (2, 3)).flatten(2) + keys
        weights = torch.cat([logits, special[:, :, token]], 2).softmax(2)
        return weights[..., : keys.shape[2]].unflatten(2, hw_shape)

    def attention_matrix(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, h, N, N), of the tokens of the grid."""
        kernel, keys, special = self._parts(x, hw_shape)
        logits = bccb(kernel.flatten(2), hw_shape) + keys[:, :, None]
        return torch.cat([logits, special], 3).softmax(3)[..., : keys.shape[2]]

    def _parts(self, x: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The logits: g_a a (B, h, H, W), g_b b (B, h, N), of the special tokens (B, h, N, T)."""
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        q, k, _ = self._project(x, special)
        grid_q, keys = self._logits(q[:, special:], k[:, special:])
        kernel = circulant_kernel(grid_q, k[:, special:], hw_shape, self.head_dim, 'paper')
        logits = kernel.clamp(min=torch.finfo(kernel.dtype).tiny).log()
        logits = logits - logits.mean((2, 3), keepdim=True)
        q, k = split_heads(q, self.num_heads), split_heads(k, self.num_heads)
        return logits, keys, special_logits(q, k, special)
