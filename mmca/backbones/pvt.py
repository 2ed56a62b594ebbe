"""Pyramid Vision Transformers with a choice of attention for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmca.backbones.base import Backbone
from mmca.layers import PatchEmbed
from mmca.layers.position import resize_tokens
from mmca.registry import MODELS

STRIDES = (4, 2, 2, 2)
PATCH_NORM_EPS = 1e-5


def _arch(
    *depths: int, embed_dims: tuple = (64, 128, 320, 512), mlp_ratios: tuple = (8, 8, 4, 4)
) -> dict:
    return {
        'embed_dims': embed_dims,
        'depths': depths,
        'num_heads': (1, 2, 5, 8),
        'mlp_ratios': mlp_ratios,
        'sr_ratios': (8, 4, 2, 1),
    }


@MODELS.register_module()
class PVT(Backbone):
    """Pyramid Vision Transformer (arXiv 2102.12122) with a choice of attention for each stage.

    Parameter names are the original classification code's: `patch_embed{i}`, `pos_embed{i}`,
    `block{i}.{j}`, i from 1.

    `Backbone` describes the arguments. `arch` is 'tiny', 'small', 'medium', 'large' (or t, s, m,
    l), or a mapping of `embed_dims`, `depths`, `num_heads`, `mlp_ratios`, `sr_ratios`, four values
    each. The default `attn` is softmax (spatial reduction) in PVT, CCSS in CAPVT, L in FLattenPVT.
    frozen_stages=0 freezes the first patch and position embedding.

    Example:
        >>> import torch
        >>> maps = CAPVT('tiny')(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 64, 16, 24), (1, 128, 8, 12), (1, 320, 4, 6), (1, 512, 2, 3)]
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'tiny': _arch(2, 2, 2, 2),
        'small': _arch(3, 4, 6, 3),
        'medium': _arch(3, 4, 18, 3),
        'large': _arch(3, 8, 27, 3),
    }
    softmax_attention = 'spatial_reduction'
    stem = ('patch_embed1', 'pos_embed1')
    stage_parts = ('patch_embed{n}', 'pos_embed{n}', 'block{n}', 'norm{n}')
    no_weight_decay = ('pos_embed1', 'pos_embed2', 'pos_embed3', 'pos_embed4')
    # PVTv2: overlapping patches, a convolution in the MLPs, a norm after each stage instead of
    # position embeddings.
    v2 = False

    def build(self, in_channels: int, img_size: int) -> None:
        self.embed_dims, side = tuple(self.arch['embed_dims']), img_size
        for i in range(max(self.out_indices) + 1):
            dims, stride = self.embed_dims[i], STRIDES[i]
            side = -(-side // stride) if self.v2 else max(side // stride, 1)
            patch_embed = PatchEmbed(
                in_channels, dims, stride, overlap=self.v2, norm_eps=PATCH_NORM_EPS
            )
            setattr(self, f'patch_embed{i + 1}', patch_embed)
            if not self.v2:
                pos_embed = nn.Parameter(torch.zeros(1, side * side, dims))
                setattr(self, f'pos_embed{i + 1}', nn.init.trunc_normal_(pos_embed, std=0.02))
            blocks = self.build_blocks(
                i,
                dims,
                self.arch['num_heads'][i],
                self.arch['mlp_ratios'][i],
                mlp_conv=self.v2,
                grid_size=side,
                sr_ratio=self.arch['sr_ratios'][i],
                split_qkv=True,
            )
            setattr(self, f'block{i + 1}', blocks)
            if self.v2:
                setattr(self, f'norm{i + 1}', nn.LayerNorm(dims, self.norm_eps))
            in_channels = dims

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), any H and W -> (B, C_i, H_i, W_i) for each stage in out_indices."""
        maps = []
        for i in range(max(self.out_indices) + 1):
            x, hw_shape = getattr(self, f'patch_embed{i + 1}')(x)
            if not self.v2:
                x = x + resize_tokens(getattr(self, f'pos_embed{i + 1}'), hw_shape)
            x = self.pos_drop(x)
            for block in getattr(self, f'block{i + 1}'):
                x = self.run_block(block, x, hw_shape)
            if self.v2:
                x = getattr(self, f'norm{i + 1}')(x)
            x = x.mT.contiguous().unflatten(2, hw_shape)
            if i in self.out_indices:
                maps.append(x)
        return tuple(maps)


@MODELS.register_module()
class CAPVT(PVT):
    """PVT with circulant attention in stages 1 and 2, CA-PVT (arXiv 2512.21542)."""

    default_attn = 'CCSS'


@MODELS.register_module()
class FLattenPVT(PVT):
    """PVT with focused linear attention in all stages, FLatten-PVT (arXiv 2308.00442)."""

    default_attn = 'L'


@MODELS.register_module()
class PVTv2(PVT):
    """PVTv2 (arXiv 2106.13797): overlapping patches, a convolution in every MLP, no pos_embed.

    Parameter names are the original classification code's, with `norm{i}` after each stage.
    `arch` is 'b0' to 'b5', or a mapping.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'b0': _arch(2, 2, 2, 2, embed_dims=(32, 64, 160, 256)),
        'b1': _arch(2, 2, 2, 2),
        'b2': _arch(3, 4, 6, 3),
        'b3': _arch(3, 4, 18, 3),
        'b4': _arch(3, 8, 27, 3),
        'b5': _arch(3, 6, 40, 3, mlp_ratios=(4, 4, 4, 4)),
    }
    v2 = True


@MODELS.register_module()
class FLattenPVTv2(PVTv2):
    """PVTv2 with focused linear attention in all stages, FLatten-PVTv2 (arXiv 2308.00442)."""

    default_attn = 'L'
