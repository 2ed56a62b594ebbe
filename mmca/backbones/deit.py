"""DeiT with softmax, circulant or focused linear attention, block by block."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmca.backbones.base import Backbone, drop_path_rates, init_linear, resolve_attn
from mmca.layers import Block, CirculantAttention, FocusedLinearAttention, SelfAttention, TokenNorm
from mmca.layers.padding import pad_to_multiple
from mmca.layers.position import resize_tokens
from mmca.ops import channels_first
from mmca.registry import MODELS

PATCH_SIZE = 16
NORM_EPS = 1e-6


def _arch(embed_dims: int, num_heads: int) -> dict:
    return {'embed_dims': embed_dims, 'depth': 12, 'num_heads': num_heads, 'mlp_ratio': 4}


class PatchEmbed(nn.Module):
    """16 x 16 patches by a strided convolution.

    Args:
        in_channels: channels of the image.
        embed_dims: C.
    """

    def __init__(self, in_channels: int, embed_dims: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dims, PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C_in, H, W) -> (B, N, C) and (H', W'); zero-padded to whole patches."""
        x = self.proj(pad_to_multiple(x, PATCH_SIZE))
        return x.flatten(2).mT, (x.shape[2], x.shape[3])


@MODELS.register_module()
class DeiT(Backbone):
    """DeiT (arXiv 2012.12877) without class token, the attention of each block a parameter.

    One map, at stride 16, after the final norm; `mmca.SimpleFeaturePyramid` makes the levels
    that FPN-style heads want. Parameter names are those of the original: `patch_embed.proj`,
    `pos_embed`, `blocks.{j}`, `norm`.

    Args:
        arch: 'tiny', 'small', 'base' (or t, s, b), or a mapping of `embed_dims`, `depth`,
            `num_heads`, `mlp_ratio`; what it leaves out is as in 'tiny'. None is the
            smallest.
        attn: attention of the blocks, 'circulant' / 'linear' / 'softmax' (or C, L, S) for all, or
            one a block. None is the class's own: softmax here, circulant in CADeiT.
        circulant: further arguments of the circulant blocks'
            :class:`mmca.layers.CirculantAttention`, such as dict(scale='paper').
        linear: further arguments of the linear blocks'
            :class:`mmca.layers.FocusedLinearAttention`, such as dict(focusing_factor=4).
        in_channels: channels of the image.
        drop_rate: dropout rate after the patch embedding, in MLPs and projections.
        drop_path_rate: stochastic depth rate of the last block, growing linearly from 0.
        pretrain_img_size: side in pixels that `pos_embed`, and the linear blocks'
            `positional_encoding`, belong to; other grids take them resized bilinearly. There is
            no `pos_embed` where the first block is circulant: its convolution tells positions.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        frozen_stages: -1 freezes nothing, 0 the patch and position embedding, n also the first
            n blocks.
        init_cfg: None, or dict(type='Pretrained', checkpoint=FILE) with DeiT or CA-DeiT weights.

    Raises:
        InputError: unknown arch or attention name.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'tiny': _arch(192, 3),
        'small': _arch(384, 6),
        'base': _arch(768, 12),
    }
    default_attn = 'S'

    def __init__(
        self,
        arch: str | Mapping | None = None,
        attn: str | Sequence[str] | None = None,
        circulant: Mapping | None = None,
        linear: Mapping | None = None,
        in_channels: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        pretrain_img_size: int = 224,
        with_cp: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        settings = self.resolve_arch(arch)
        depth = settings['depth']
        super().__init__((depth - 1,), with_cp, frozen_stages, init_cfg, num_stages=depth)
        self.arch = settings
        self.attn = resolve_attn(attn or self.default_attn, depth)
        self.embed_dims = dims = self.arch['embed_dims']
        grid_size = -(-pretrain_img_size // PATCH_SIZE)

        self.patch_embed = PatchEmbed(in_channels, dims)
        if self.attn[0] == 'circulant':
            self.pos_embed = None
        else:
            self.pos_embed = nn.Parameter(torch.zeros(1, grid_size**2, dims))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(drop_rate)
        (rates,) = drop_path_rates(drop_path_rate, [depth])
        self.blocks = nn.ModuleList(
            Block(
                dims,
                self._attention(kind, grid_size, drop_rate, circulant or {}, linear or {}),
                mlp_ratio=self.arch['mlp_ratio'],
                cpe=kind == 'circulant',
                drop=drop_rate,
                drop_path=rate,
                norm_eps=NORM_EPS,
            )
            for kind, rate in zip(self.attn, rates, strict=True)
        )
        self.norm = TokenNorm(dims, NORM_EPS)
        self.apply(init_linear)
        self.freeze()

    def _attention(
        self, kind: str, grid_size: int, drop_rate: float, circulant: Mapping, linear: Mapping
    ) -> nn.Module:
        dims, num_heads = self.embed_dims, self.arch['num_heads']
        if kind == 'circulant':
            return CirculantAttention(dims, proj_drop=drop_rate, **circulant)
        if kind == 'linear':
            return FocusedLinearAttention(dims, num_heads, grid_size, proj_drop=drop_rate, **linear)
        return SelfAttention(dims, num_heads, proj_drop=drop_rate)

    def stem_modules(self) -> list[nn.Module | nn.Parameter]:
        """The patch and position embedding."""
        return [self.patch_embed, *([] if self.pos_embed is None else [self.pos_embed])]

    def stage_modules(self, stage: int) -> list[nn.Module | nn.Parameter]:
        """One block; the last with the final norm."""
        return [self.blocks[stage], *([self.norm] if stage == len(self.blocks) - 1 else [])]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The feature map after the final norm.

        Args:
            x: (B, 3, H, W) images, any H and W.

        Returns:
            One (B, C, H', W') at stride 16, H' and W' rounded up.
        """
        x, hw_shape = self.patch_embed(x)
        if self.pos_embed is not None:
            x = x + resize_tokens(self.pos_embed, hw_shape)
        x = self.pos_drop(x)
        for block in self.blocks:
            x = self.run_block(block, x, hw_shape)
        return (channels_first(self.norm(x)).unflatten(2, hw_shape),)


@MODELS.register_module()
class CADeiT(DeiT):
    """DeiT with circulant attention in all blocks, CA-DeiT of arXiv 2512.21542.

    Every block has a 3 x 3 positional convolution, so there is no position embedding; `DeiT`
    describes the arguments.
    """

    default_attn = 'C'
