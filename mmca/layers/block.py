"""The residual block around any attention, and its parts: MLP, stochastic depth."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmca.ops.chunks import in_chunks
from mmca.ops.layout import to_maps, to_tokens


class DropPath(nn.Module):
    """Stochastic depth per sample (arXiv 1603.09382): the branch is dropped with a probability.

    Args:
        drop_prob: probability of dropping, in [0, 1).

    Example:
        >>> DropPath(0.5).eval()(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...); survivors are divided by the keep probability."""
        if not self.training or self.drop_prob == 0:
            return x
        keep = 1 - self.drop_prob
        mask = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) < keep
        return x * mask.to(x.dtype).div_(keep)

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob:.3f}'


class Mlp(nn.Module):
    """fc1, GELU, fc2; in PVTv2 (arXiv 2106.13797, section 3.3) with a convolution after fc1.

    The hidden layer is the largest tensor of a transformer block, and autograd keeps it twice.
    To save memory on CPUs, large inputs run through :func:`mmca.ops.chunks.in_chunks`.

    Args:
        embed_dims: C.
        hidden_dims: width between the two layers.
        drop: dropout rate after each layer.
        conv: whether there is the convolution, `dwconv`.

    Example:
        >>> Mlp(8, 32)(torch.zeros(2, 15, 8), hw_shape=(3, 5)).shape
        torch.Size([2, 15, 8])
    """

    def __init__(
        self, embed_dims: int, hidden_dims: int, drop: float = 0.0, conv: bool = False
    ) -> None:
        super().__init__()
        self.hidden_dims = hidden_dims
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        if conv:
            depthwise = nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
            self.dwconv = nn.ModuleDict({'dwconv': depthwise})  # PVTv2's names
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, embed_dims)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W."""
        if hasattr(self, 'dwconv'):
            maps = self.dwconv['dwconv'](to_maps(self.fc1(x), hw_shape))
            return self._project(to_tokens(maps))
        tokens, width = x.flatten(0, 1), self.hidden_dims
        return in_chunks(lambda x: self._project(self.fc1(x)), tokens, width=width).view_as(x)

    def _project(self, hidden: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(hidden))))


class Block(nn.Module):
    """A pre-norm transformer block around any attention on a grid.

        x = x + cpe(x)                          (where cpe is on: the circulant block)
        x = x + drop_path(attn(norm1(x)))
        x = x + drop_path(mlp(norm2(x)))

    `cpe` is a 3 x 3 depth-wise convolution, the conditional positional encoding of
    arXiv 2102.10882. It gives circulant attention the only positional information that it needs.

    Args:
        embed_dims: C.
        attn: an :class:`mmca.layers.Attention`, or any module with
            forward(x: (B, N, C), hw_shape: (H, W)) -> (B, N, C).
        mlp_ratio: hidden width of the MLP in units of C.
        cpe: whether the block has the positional convolution.
        mlp_conv: whether the MLP has PVTv2's convolution.
        drop: dropout rate in the MLP.
        drop_path: stochastic depth rate.
        norm_eps: eps of the two LayerNorms.

    Example:
        >>> from mmca.layers import Block, CirculantAttention
        >>> block = Block(8, CirculantAttention(8), cpe=True)
        >>> block(torch.zeros(2, 15, 8), hw_shape=(3, 5)).shape
        torch.Size([2, 15, 8])
    """

    def __init__(
        self,
        embed_dims: int,
        attn: nn.Module,
        mlp_ratio: float = 4,
        cpe: bool = False,
        mlp_conv: bool = False,
        drop: float = 0.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.cpe = (
            nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims) if cpe else None
        )
        self.norm1 = nn.LayerNorm(embed_dims, norm_eps)
        self.place(attn, embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims, norm_eps)
        self.mlp = Mlp(embed_dims, int(embed_dims * mlp_ratio), drop, mlp_conv)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W; special tokens can precede the grid tokens."""
        x = self.add_positions(x, hw_shape)
        x = x + self.drop_path(self.attend(self.norm1(x), hw_shape))
        return x + self.drop_path(self.mlp(self.norm2(x), hw_shape))

    def place(self, attn: nn.Module, embed_dims: int) -> None:
        """Register the attention."""
        self.attn = attn

    def attend(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """The attention with its projections, (B, N, C) -> (B, N, C)."""
        return self.attn(x, hw_shape)

    def add_positions(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Return x + cpe(x), or x without `cpe`."""
        if self.cpe is None:
            return x
        special = x.shape[1] - hw_shape[0] * hw_shape[1]
        positions = to_tokens(self.cpe(to_maps(x[:, special:], hw_shape)))
        return x + (F.pad(positions, (0, 0, special, 0)) if special else positions)


class ProjectingBlock(Block):
    """A block that contains the projections of its attention, as in CSwin's release.

    Modules: `norm1`, `qkv`, `attns.{k}`, `proj`, `norm2`, `mlp`. `attns` is an attention with
    numbered branches, or contains an attention without branches under the name 0.

    Takes the same arguments as `Block`; the attention must have `projects=False`.

    Example:
        >>> from mmca.layers import ProjectingBlock, StripesAttention
        >>> block = ProjectingBlock(8, StripesAttention(8, num_heads=2, projects=False))
        >>> block(torch.zeros(2, 15, 8), hw_shape=(3, 5)).shape
        torch.Size([2, 15, 8])
    """

    def place(self, attn: nn.Module, embed_dims: int) -> None:
        """Register the attention and its projections."""
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.attns = attn if hasattr(attn, '0') else nn.ModuleList([attn])
        self.proj = nn.Linear(embed_dims, embed_dims)

    @property
    def attn(self) -> nn.Module:
        """The attention, without its projections."""
        return self.attns[0] if isinstance(self.attns, nn.ModuleList) else self.attns

    def attend(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """The attention with its projections, (B, N, C) -> (B, N, C)."""
        return self.proj(self.attn(self.qkv(x), hw_shape))
