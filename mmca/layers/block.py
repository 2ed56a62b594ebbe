"""The parts around an attention: MLP, stochastic depth, the residual block."""

import torch
from torch import Tensor, nn

from mmca.ops import channels_first, layer_norm, mlp


class DropPath(nn.Module):
    """Stochastic depth per sample (arXiv 1603.09382): the branch is dropped with a probability.

    Args:
        drop_prob: probability of dropping, in [0, 1).
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


class TokenNorm(nn.LayerNorm):
    """LayerNorm of tokens that keeps their memory layout, see :func:`mmca.ops.layer_norm`.

    Args:
        embed_dims: C.
        eps: added to the variance.
    """

    def __init__(self, embed_dims: int, eps: float) -> None:
        super().__init__(embed_dims, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return layer_norm(x, self.weight, self.bias, self.eps)


class DepthwiseConv(nn.Module):
    """A 3 x 3 depth-wise convolution of tokens, under PVTv2's name for it: `dwconv`.

    Args:
        embed_dims: C.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W."""
        return self.dwconv(x.mT.unflatten(2, hw_shape)).flatten(2).mT


class Mlp(nn.Module):
    """fc1, GELU, fc2; in PVTv2 (arXiv 2106.13797, section 3.3) with a convolution after fc1.

    Args:
        embed_dims: C.
        hidden_dims: width between the two layers.
        drop: dropout rate after each layer.
        conv: whether there is the convolution, `dwconv`.
    """

    def __init__(
        self, embed_dims: int, hidden_dims: int, drop: float = 0.0, conv: bool = False
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.dwconv = DepthwiseConv(hidden_dims) if conv else None
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, embed_dims)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W."""
        if self.dwconv is None and (self.drop.p == 0 or not self.training):
            return mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        x = self.fc1(x)
        if self.dwconv is not None:
            x = self.dwconv(x, hw_shape)
        return self.drop(self.fc2(self.drop(self.act(x))))


class Block(nn.Module):
    """A pre-norm transformer block around any attention on a grid.

        x = x + cpe(x)                          (where cpe is on: the circulant block)
        x = x + drop_path(attn(norm1(x)))
        x = x + drop_path(mlp(norm2(x)))

    `cpe` is a 3 x 3 depth-wise convolution, the conditional positional encoding of
    arXiv 2102.10882: circulant attention is blind to position, and this is all it needs.

    The whole block runs in the memory layout of its attention. Tokens that come in the other one
    are copied once; blocks of one kind in a row copy nothing.

    Args:
        embed_dims: C.
        attn: a module with forward(x: (B, N, C), hw_shape: (H, W)) -> (B, N, C). If it has a true
            attribute `channels_first`, it gets and gives tokens whose `mT` is contiguous.
        mlp_ratio: hidden width of the MLP in units of C.
        cpe: whether the block has the positional convolution.
        mlp_conv: whether the MLP has PVTv2's convolution.
        drop: dropout rate in the MLP.
        drop_path: stochastic depth rate.
        norm_eps: eps of the two LayerNorms.
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
        self.norm1 = TokenNorm(embed_dims, norm_eps)
        self.attn = attn
        self.norm2 = TokenNorm(embed_dims, norm_eps)
        self.mlp = Mlp(embed_dims, int(embed_dims * mlp_ratio), drop, mlp_conv)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, N, C) -> (B, N, C), N = H * W."""
        first = getattr(self.attn, 'channels_first', False)
        x = channels_first(x).mT if first else x.contiguous()
        if self.cpe is not None:
            grid = x.mT.unflatten(2, hw_shape)
            x = x + self.cpe(grid).flatten(2).mT
        x = x + self.drop_path(self.attn(self.norm1(x), hw_shape))
        return x + self.drop_path(self.mlp(self.norm2(x), hw_shape))
