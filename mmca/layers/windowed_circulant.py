"""Softmax attention that is exact in windows, and circulant attention with keys beyond them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers.attention import Attention, StageSpec, check_heads, register_attention
from mmca.layers.special_tokens import join_special, special_logits
from mmca.ops import windowed_circulant_attention
from mmca.ops.dft import dft_macs, matrix_macs
from mmca.ops.layout import check_tokens, split_heads
from mmca.ops.naive import windowed_logits

WINDOW = 7  # tokens, as in Swin


@register_attention('windowed_circulant', letter='X')
class WindowedCirculantAttention(Attention):
    """Softmax attention within windows, joined with circulant attention with keys beyond them.

    Tokens in the same window of M x M attend to each other with the logits of softmax attention,
    all others with its projection on displacements and keys, see
    :func:`mmca.ops.windowed_circulant_attention`; a single softmax joins both. O(N log N + N M^2).

    Parameters: `qkv` with its bias and `proj`, those of softmax attention, so its weights load
    without conversion. Special tokens, such as a class token, can precede the grid tokens;
    attention to and from them is exact, O(N). In PVT, it replaces spatial reduction, and in Swin
    shifted windows, with attention over all grid tokens.

    Args:
        embed_dims: C.
        num_heads: h, must divide C.
        window_size: M.
        proj_drop: dropout rate after the projection.

    Raises:
        InputError: num_heads does not divide embed_dims, or window_size < 1.

    Example:
        >>> import torch
        >>> from mmca.layers import WindowedCirculantAttention
        >>> attn = WindowedCirculantAttention(embed_dims=64, num_heads=2)
        >>> attn(torch.randn(2, 1 + 50 * 76, 64), hw_shape=(50, 76)).shape
        torch.Size([2, 3801, 64])
    """

    method: ClassVar[str] = 'WCA-'
    replaces_softmax = True
    special_tokens = True

    def __init__(
        self, embed_dims: int, num_heads: int, window_size: int = WINDOW, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        if window_size < 1:
            raise InputError(f'window_size must be at least 1, got {window_size}')
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.head_dim = embed_dims // num_heads
        self.window_size = window_size
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop)

    @classmethod
    def from_spec(cls, spec: StageSpec, **options: Any) -> WindowedCirculantAttention:
        """The default windows are the family's, or of 7 x 7 tokens."""
        return super().from_spec(spec, **{'window_size': spec.window_size or WINDOW, **options})

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, T + N, C) -> (B, T + N, C), N = H * W, with T special tokens.

        Raises:
            InputError: there are fewer than H * W tokens, or C is not embed_dims.
        """
        check_tokens(x, hw_shape, self.embed_dims, special_tokens=True)
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        q, k, v = self._project(x, special)
        grid = (t[:, special:] for t in (q, k, v))
        out, lse = windowed_circulant_attention(
            *grid, hw_shape, self.head_dim, self.window_size, return_lse=True
        )
        return self.proj_drop(self.proj(join_special(q, k, v, out, lse)))

    def _project(self, x: Tensor, special: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, (B, T + N, C). The grid's keys have zero mean, which softmax ignores."""
        q, k, v = self.qkv(x).chunk(3, 2)
        return q, k - k[:, special:].mean(1, keepdim=True), v

    def extra_macs(self, hw_shape: tuple[int, int]) -> int:
        """The transforms and spectral products."""
        return dft_macs(hw_shape[0] * hw_shape[1], self.embed_dims, self.head_dim, keys=True)

    def exported_macs(self, hw_shape: tuple[int, int]) -> int:
        """The same as products with DFT matrices."""
        return matrix_macs(hw_shape, self.embed_dims, self.head_dim, keys=True)

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, h, H, W); special tokens can precede the grid tokens and receive some weight."""
        return self.attention_matrix(x, hw_shape)[:, :, token].unflatten(2, hw_shape)

    def attention_matrix(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, h, N, N), of the tokens of the grid."""
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        q, k = (split_heads(t, self.num_heads) for t in self._project(x, special)[:2])
        logits = q[:, :, special:] @ k[:, :, special:].mT * self.head_dim**-0.5
        logits = windowed_logits(logits, hw_shape, self.window_size)
        weights = torch.cat([logits, special_logits(q, k, special)], 3).softmax(3)
        return weights[..., : logits.shape[3]]
