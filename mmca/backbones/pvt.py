"""PVT with softmax, circulant or focused linear attention, stage by stage."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmca.backbones.base import Backbone, drop_path_rates, init_linear, resolve_attn
from mmca.layers import (
    Block,
    CirculantAttention,
    FocusedLinearAttention,
    SpatialReductionAttention,
)
from mmca.layers.position import resize_tokens
from mmca.layers.softmax_attention import pad_to_kernel
from mmca.registry import MODELS

PATCH_SIZES = (4, 2, 2, 2)
NORM_EPS = 1e-6


def _arch(*depths: int) -> dict:
    return {
        'embed_dims': (64, 128, 320, 512),
        'depths': depths,
        'num_heads': (1, 2, 5, 8),
        'mlp_ratios': (8, 8, 4, 4),
        'sr_ratios': (8, 4, 2, 1),
    }


class PatchEmbed(nn.Module):
    """Non-overlapping patches by a strided convolution, then LayerNorm.

    Args:
        in_channels: channels of the image or of the stage before.
        embed_dims: C.
        patch_size: side of a patch. Rows and columns beyond the last whole patch are left out,
            as in the original; a map smaller than one patch is zero-padded to one.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-5)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C_in, H, W) -> (B, N, C) tokens and their grid (H', W'), N = H' * W'."""
        x = self.proj(pad_to_kernel(x, self.patch_size))
        hw_shape = (x.shape[2], x.shape[3])
        return self.norm(x.flatten(2).mT), hw_shape


@MODELS.register_module()
class PVT(Backbone):
    """Pyramid Vision Transformer (arXiv 2102.12122), the attention of each stage a parameter.

    Parameter names are those of the original classification code: `patch_embed{i}`,
    `pos_embed{i}`, `block{i}.{j}`, i from 1.

    Args:
        arch: 'tiny', 'small', 'medium', 'large' (or t, s, m, l), or a mapping of `embed_dims`,
            `depths`, `num_heads`, `mlp_ratios`, `sr_ratios`, four values each; what it leaves
            out is as in 'tiny'.
        attn: attention of each stage, 'CCSS' or a list of 'circulant' / 'linear' / 'softmax', one
            for all. None is the class's own: softmax here, CCSS in CAPVT, L in FLattenPVT.
        circulant: further arguments of the circulant stages'
            :class:`mmca.layers.CirculantAttention`, such as dict(scale='paper').
        linear: further arguments of the linear stages'
            :class:`mmca.layers.FocusedLinearAttention`, such as dict(focusing_factor=4).
        in_channels: channels of the image.
        out_indices: stages whose maps are returned, from 0.
        drop_rate: dropout rate after the position embedding, in MLPs and projections.
        drop_path_rate: stochastic depth rate of the last block, growing linearly from 0.
        pretrain_img_size: side in pixels that `pos_embed{i}`, and the linear stages'
            `positional_encoding`, belong to; other grids take them resized bilinearly.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        frozen_stages: -1 freezes nothing, 0 the first patch and position embedding, n also the
            first n stages.
        init_cfg: None, or dict(type='Pretrained', checkpoint=FILE) with original PVT weights.

    Raises:
        InputError: unknown arch, attention name or stage index.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'tiny': _arch(2, 2, 2, 2),
        'small': _arch(3, 4, 6, 3),
        'medium': _arch(3, 4, 18, 3),
        'large': _arch(3, 8, 27, 3),
    }
    default_attn = 'S'

    def __init__(
        self,
        arch: str | Mapping = 'tiny',
        attn: str | Sequence[str] | None = None,
        circulant: Mapping | None = None,
        linear: Mapping | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        pretrain_img_size: int = 224,
        with_cp: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(out_indices, with_cp, frozen_stages, init_cfg)
        self.arch = self.resolve_arch(arch)
        self.attn = resolve_attn(attn or self.default_attn, self.num_stages)
        self.embed_dims = tuple(self.arch['embed_dims'])
        self.pos_drop = nn.Dropout(drop_rate)
        rates = drop_path_rates(drop_path_rate, self.arch['depths'])

        side = pretrain_img_size
        for i, (dims, patch_size) in enumerate(zip(self.embed_dims, PATCH_SIZES, strict=True)):
            side = max(side // patch_size, 1)
            stage = i + 1
            setattr(self, f'patch_embed{stage}', PatchEmbed(in_channels, dims, patch_size))
            setattr(self, f'pos_embed{stage}', nn.Parameter(torch.zeros(1, side * side, dims)))
            blocks = [
                Block(
                    dims,
                    self._attention(i, side, drop_rate, circulant or {}, linear or {}),
                    mlp_ratio=self.arch['mlp_ratios'][i],
                    cpe=self.attn[i] == 'circulant',
                    drop=drop_rate,
                    drop_path=rate,
                    norm_eps=NORM_EPS,
                )
                for rate in rates[i]
            ]
            setattr(self, f'block{stage}', nn.ModuleList(blocks))
            nn.init.trunc_normal_(getattr(self, f'pos_embed{stage}'), std=0.02)
            in_channels = dims
            if i == max(self.out_indices):
                break
        self.apply(init_linear)
        self.freeze()

    def _attention(
        self, stage: int, grid_size: int, drop_rate: float, circulant: Mapping, linear: Mapping
    ) -> nn.Module:
        dims, num_heads = self.embed_dims[stage], self.arch['num_heads'][stage]
        if self.attn[stage] == 'circulant':
            return CirculantAttention(dims, proj_drop=drop_rate, **circulant)
        if self.attn[stage] == 'linear':
            return FocusedLinearAttention(
                dims, num_heads, grid_size, split_qkv=True, proj_drop=drop_rate, **linear
            )
        return SpatialReductionAttention(
            dims,
            num_heads,
            sr_ratio=self.arch['sr_ratios'][stage],
            proj_drop=drop_rate,
        )

    def stem_modules(self) -> list[nn.Module | nn.Parameter]:
        """The first stage's patch and position embedding."""
        return [self.patch_embed1, self.pos_embed1]

    def stage_modules(self, stage: int) -> list[nn.Module | nn.Parameter]:
        """All of a stage."""
        names = ('patch_embed', 'pos_embed', 'block')
        return [getattr(self, f'{name}{stage + 1}') for name in names]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the stages in out_indices.

        Args:
            x: (B, 3, H, W) images, any H and W.

        Returns:
            One (B, C_i, H_i, W_i) a stage, at strides 4, 8, 16, 32.
        """
        maps = []
        for i in range(max(self.out_indices) + 1):
            x, hw_shape = getattr(self, f'patch_embed{i + 1}')(x)
            pos_embed = getattr(self, f'pos_embed{i + 1}')
            x = self.pos_drop(x + resize_tokens(pos_embed, hw_shape))
            for block in getattr(self, f'block{i + 1}'):
                x = self.run_block(block, x, hw_shape)
            x = x.mT.unflatten(2, hw_shape).contiguous()
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)


@MODELS.register_module()
class CAPVT(PVT):
    """PVT with circulant attention in stages 1 and 2, CA-PVT of arXiv 2512.21542.

    The circulant stages have no spatial reduction and add a 3 x 3 positional convolution to
    every block; `PVT` describes the arguments.
    """

    default_attn = 'CCSS'


@MODELS.register_module()
class FLattenPVT(PVT):
    """PVT with focused linear attention in all stages, FLatten-PVT of arXiv 2308.00442.

    The linear stages have no spatial reduction; `PVT` describes the arguments.
    """

    default_attn = 'L'
