"""The focused linear attention layer."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmca.errors import InputError
from mmca.layers.attention import Attention, StageSpec, check_heads, register_attention
from mmca.layers.position import resize_tokens
from mmca.ops import focused_linear_attention
from mmca.ops.focused_linear import focused_weights
from mmca.ops.layout import check_tokens, to_maps, to_tokens


@register_attention('linear', letter='L')
class FocusedLinearAttention(Attention):
    """Focused linear attention with rank restoration, O(N) (arXiv 2308.00442, eq. 4 to 6).

        y = (focused_linear_attention(q, k + positional_encoding, v) + DWC(v)) W_proj + b_proj

    DWC is a depth-wise convolution whose weights all heads share. A drop-in replacement for
    self-attention on a token grid that needs only torch. Parameter names follow the authors'
    release: `q`, `kv` (PVT) or `qkv` (Swin), `scale` (1, 1, C), `positional_encoding` (1, N, C),
    `dwc.weight` (d, 1, 5, 5), `dwc.bias`, `proj`; in CSwin also `get_v`.

    Args:
        embed_dims: C.
        num_heads: heads, must divide C; d = C / num_heads.
        grid_size: side S of the square grid that `positional_encoding` belongs to, N = S * S;
            it is resized bilinearly for other grids.
        focusing_factor: p, the power of the feature map.
        kernel_size: side of the depth-wise convolution, odd.
        split_qkv: whether the projections are named `q` and `kv`, as in PVT, or `qkv`.
        projects: whether it has `qkv` and `proj`, see :class:`mmca.layers.Attention`.
        lepe: whether a second depth-wise convolution of v, `get_v`, 3 x 3, is added (CSwin).
        proj_drop: dropout rate of the result.

    Raises:
        InputError: num_heads does not divide embed_dims, an even kernel_size, or a focusing_factor
            that is not positive.

    Example:
        >>> import torch
        >>> from mmca.layers import FocusedLinearAttention
        >>> attn = FocusedLinearAttention(embed_dims=64, num_heads=2)
        >>> attn(torch.randn(2, 50 * 76, 64), hw_shape=(50, 76)).shape
        torch.Size([2, 3800, 64])
    """

    no_weight_decay = ('positional_encoding',)
    resized_parameters: ClassVar[dict[str, str]] = {'positional_encoding': 'bilinear'}
    signature: ClassVar[str] = 'dwc.weight'
    method: ClassVar[str] = 'FLatten-'

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        grid_size: int = 14,
        focusing_factor: float = 3.0,
        kernel_size: int = 5,
        split_qkv: bool = False,
        projects: bool = True,
        lepe: bool = False,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        if kernel_size % 2 == 0:
            raise InputError(f'kernel_size must be odd, got {kernel_size}')
        if focusing_factor <= 0:
            raise InputError(f'focusing_factor must be positive, got {focusing_factor}')
        head_dim = embed_dims // num_heads
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.focusing_factor = focusing_factor
        self.split_qkv = split_qkv
        self.projects = projects
        if split_qkv:
            self.q = nn.Linear(embed_dims, embed_dims)
            self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        else:
            self.qkv = nn.Linear(embed_dims, 3 * embed_dims) if projects else nn.Identity()
        self.dwc = nn.Conv2d(
            head_dim, head_dim, kernel_size, padding=kernel_size // 2, groups=head_dim
        )
        self.scale = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.positional_encoding = nn.Parameter(torch.zeros(1, grid_size**2, embed_dims))
        self.get_v = (
            nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims) if lepe else None
        )
        self.proj = nn.Linear(embed_dims, embed_dims) if projects else nn.Identity()
        self.proj_drop = nn.Dropout(proj_drop)

    @classmethod
    def from_softmax(cls, tensors: Mapping[str, Tensor], spec: StageSpec) -> dict[str, Tensor]:
        """Tensors of equal name and shape; in CSwin, `get_v` of both directions of stripes."""
        start = dict(tensors)
        for name in ('attns.0.get_v.weight', 'attns.0.get_v.bias'):
            other = name.replace('attns.0', 'attns.1')
            if other in start:
                start[name] = torch.cat([start[name], start[other]])
        return start

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W; (B, N, 3C) -> (B, N, C) unless it projects.

        Raises:
            InputError: H * W != N, or the number of channels is another.
        """
        check_tokens(x, hw_shape, (1 if self.projects else 3) * self.embed_dims)
        q, k, v = self._project(x, hw_shape)
        out = focused_linear_attention(
            q, k, v, F.softplus(self.scale), self.num_heads, self.focusing_factor
        )
        out = out + self._restore_rank(v, hw_shape)
        if self.get_v is not None:
            out = out + to_tokens(self.get_v(to_maps(v, hw_shape)))
        return self.proj_drop(self.proj(out))

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """(B, num_heads, H, W), without the convolution's part."""
        q, k, _ = self._project(x, hw_shape)
        scale = F.softplus(self.scale)
        query = q[:, token : token + 1]
        weights = focused_weights(query, k, scale, self.num_heads, self.focusing_factor)
        return weights[:, :, 0].unflatten(2, hw_shape)

    def _project(self, x: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        if self.split_qkv:
            q, (k, v) = self.q(x), self.kv(x).chunk(2, dim=2)
        else:
            q, k, v = self.qkv(x).chunk(3, dim=2)
        return q, k + resize_tokens(self.positional_encoding, hw_shape), v

    def _restore_rank(self, v: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """DWC(v), (B, N, C) -> (B, N, C): every head goes through the same convolution."""
        heads = v.unflatten(2, (self.num_heads, -1)).permute(0, 2, 3, 1)
        out = self.dwc(heads.flatten(0, 1).unflatten(2, hw_shape))
        return out.flatten(2).unflatten(0, (-1, self.num_heads)).flatten(1, 2).mT
