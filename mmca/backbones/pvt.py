"""Pyramid Vision Transformers whose attention is chosen stage by stage."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmca.backbones.base import Backbone, drop_path_rates, init_linear
from mmca.layers import PatchEmbed, StageSpec
from mmca.layers.position import resize_tokens
from mmca.ops.layout import to_maps
from mmca.registry import MODELS

STRIDES = (4, 2, 2, 2)
NORM_EPS = 1e-6
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
    """Pyramid Vision Transformer (arXiv 2102.12122), the attention of each stage a parameter.

    Parameter names are those of the original classification code: `patch_embed{i}`,
    `pos_embed{i}`, `block{i}.{j}`, i from 1.

    Args:
        arch: 'tiny', 'small', 'medium', 'large' (or t, s, m, l), or a mapping of `embed_dims`,
            `depths`, `num_heads`, `mlp_ratios`, `sr_ratios`, four values each; what it leaves
            out is as in 'tiny'. None is the smallest.
        attn: attention of each stage, 'CCSS' or a list of names such as 'circulant', 'linear',
            'softmax', one for all. None is the class's own: softmax (spatial reduction) here,
            CCSS in CAPVT, L in FLattenPVT.
        attn_cfg: options of attentions by name, such as dict(circulant=dict(scale='paper'),
            linear=dict(focusing_factor=4)).
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
        InputError: unknown arch, attention, option or stage index.

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
    no_weight_decay = ('pos_embed1', 'pos_embed2', 'pos_embed3', 'pos_embed4')
    # PVTv2: overlapping patches, a convolution in the MLP and a norm after each stage, in place
    # of position embeddings.
    v2 = False

    def __init__(
        self,
        arch: str | Mapping | None = None,
        attn: str | Sequence[str] | None = None,
        attn_cfg: Mapping[str, Mapping] | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        pretrain_img_size: int = 224,
        with_cp: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(arch, attn, attn_cfg, out_indices, with_cp, frozen_stages, init_cfg)
        self.embed_dims = tuple(self.arch['embed_dims'])
        self.pos_drop = nn.Dropout(drop_rate)
        rates = drop_path_rates(drop_path_rate, self.arch['depths'])

        side = pretrain_img_size
        for i, (dims, stride) in enumerate(zip(self.embed_dims, STRIDES, strict=True)):
            side = -(-side // stride) if self.v2 else max(side // stride, 1)
            stage = i + 1
            patch_embed = PatchEmbed(
                in_channels, dims, stride, overlap=self.v2, norm_eps=PATCH_NORM_EPS
            )
            setattr(self, f'patch_embed{stage}', patch_embed)
            if not self.v2:
                pos_embed = nn.Parameter(torch.zeros(1, side * side, dims))
                setattr(self, f'pos_embed{stage}', nn.init.trunc_normal_(pos_embed, std=0.02))
            blocks = [
                self.build_block(
                    StageSpec(
                        dims,
                        self.arch['num_heads'][i],
                        stage=i,
                        block=j,
                        grid_size=side,
                        sr_ratio=self.arch['sr_ratios'][i],
                        drop_rate=drop_rate,
                        split_qkv=True,
                    ),
                    mlp_ratio=self.arch['mlp_ratios'][i],
                    mlp_conv=self.v2,
                    drop_path=rate,
                    norm_eps=NORM_EPS,
                )
                for j, rate in enumerate(rates[i])
            ]
            setattr(self, f'block{stage}', nn.ModuleList(blocks))
            if self.v2:
                setattr(self, f'norm{stage}', nn.LayerNorm(dims, NORM_EPS))
            in_channels = dims
            if i == max(self.out_indices):
                break
        self.apply(init_linear)
        self.freeze()

    def stem_modules(self) -> list[nn.Module | nn.Parameter]:
        """The first stage's patch and position embedding."""
        return self._parts(0, ('patch_embed', 'pos_embed'))

    def stage_modules(self, stage: int) -> list[nn.Module | nn.Parameter]:
        """All of a stage."""
        return self._parts(stage, ('patch_embed', 'pos_embed', 'block', 'norm'))

    def _parts(self, stage: int, names: Sequence[str]) -> list[nn.Module | nn.Parameter]:
        parts = [getattr(self, f'{name}{stage + 1}', None) for name in names]
        return [part for part in parts if part is not None]

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
            if not self.v2:
                x = x + resize_tokens(getattr(self, f'pos_embed{i + 1}'), hw_shape)
            x = self.pos_drop(x)
            for block in getattr(self, f'block{i + 1}'):
                x = self.run_block(block, x, hw_shape)
            if self.v2:
                x = getattr(self, f'norm{i + 1}')(x)
            x = to_maps(x, hw_shape).contiguous()
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


@MODELS.register_module()
class PVTv2(PVT):
    """PVTv2 (arXiv 2106.13797): overlapping patches, a convolution in every MLP, no pos_embed.

    Parameter names are those of the original classification code, with `norm{i}` after each
    stage. `PVT` describes the arguments; `arch` is 'b0' to 'b5' or a mapping, which has what it
    leaves out from 'b0'.
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
    """PVTv2 with focused linear attention in all stages, FLatten-PVTv2 of arXiv 2308.00442.

    `PVTv2` and `PVT` describe the arguments.
    """

    default_attn = 'L'
