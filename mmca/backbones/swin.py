"""Swin Transformers whose attention is chosen stage by stage."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from mmca.backbones.base import Backbone, drop_path_rates, init_linear
from mmca.layers import Block, PatchEmbed, StageSpec
from mmca.layers.padding import pad_to_multiple
from mmca.ops.layout import to_maps
from mmca.registry import MODELS

PATCH_SIZE = 4
NORM_EPS = 1e-5


def _arch(embed_dims: int, depths: tuple, num_heads: tuple) -> dict:
    return {
        'embed_dims': embed_dims,
        'depths': depths,
        'num_heads': num_heads,
        'mlp_ratio': 4,
        'window_size': 7,
    }


class PatchMerging(nn.Module):
    """2 x 2 adjacent tokens concatenated, LayerNorm, reduced to twice the channels.

    Args:
        embed_dims: C of the input.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * embed_dims, eps=NORM_EPS)
        self.reduction = nn.Linear(4 * embed_dims, 2 * embed_dims, bias=False)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """(B, H * W, C) -> (B, H' * W', 2C) and (H', W'), halved and rounded up."""
        x = pad_to_multiple(to_maps(x, hw_shape), 2).permute(0, 2, 3, 1)
        hw_shape = (x.shape[1] // 2, x.shape[2] // 2)
        # Channel blocks in the original's order: (0, 0), (1, 0), (0, 1), (1, 1).
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.flatten(3).flatten(1, 2))), hw_shape


class Stage(nn.Module):
    """A stage's blocks and, except in the last stage, its downsampling, under the original names.

    Args:
        blocks: the blocks.
        downsample: patch merging towards the next stage, or None.
    """

    def __init__(self, blocks: list[Block], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


@MODELS.register_module()
class Swin(Backbone):
    """Swin Transformer (arXiv 2103.14030), the attention of each stage a parameter.

    Parameter names are those of the original detection code: `patch_embed`,
    `layers.{i}.blocks.{j}`, `layers.{i}.downsample`, `norm{i}`, i from 0.

    Args:
        arch: 'tiny', 'small', 'base' (or t, s, b), or a mapping of `embed_dims` (first stage;
            it doubles), `depths`, `num_heads`, `mlp_ratio`, `window_size`; what it leaves out
            is as in 'tiny'. None is the smallest.
        attn: attention of each stage, 'CCSS' or a list of names such as 'circulant', 'linear',
            'softmax', one for all. None is the class's own: softmax (windows) here, CCSS in
            CASwin, LLSS in FLattenSwin. Circulant and linear stages see the whole grid, without
            windows or shift.
        attn_cfg: options of attentions by name, such as dict(circulant=dict(scale='paper'),
            linear=dict(focusing_factor=4)).
        in_channels: channels of the image.
        out_indices: stages whose maps are returned, from 0; each has a LayerNorm `norm{i}`.
        drop_rate: dropout rate after the patch embedding, in MLPs and projections.
        drop_path_rate: stochastic depth rate of the last block, growing linearly from 0.
        pretrain_img_size: side in pixels that the linear stages' `positional_encoding` belongs
            to; it is resized bilinearly for other grids. The other stages have none.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        frozen_stages: -1 freezes nothing, 0 the patch embedding, n also the first n stages.
        init_cfg: None, or dict(type='Pretrained', checkpoint=FILE) with original Swin weights.

    Raises:
        InputError: unknown arch, attention, option or stage index.

    Example:
        >>> import torch
        >>> maps = CASwin('tiny')(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 96, 16, 24), (1, 192, 8, 12), (1, 384, 4, 6), (1, 768, 2, 3)]
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'tiny': _arch(96, (2, 2, 6, 2), (3, 6, 12, 24)),
        'small': _arch(96, (2, 2, 18, 2), (3, 6, 12, 24)),
        'base': _arch(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    }
    softmax_attention = 'window'

    def __init__(
        self,
        arch: str | Mapping | None = None,
        attn: str | Sequence[str] | None = None,
        attn_cfg: Mapping[str, Mapping] | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        pretrain_img_size: int = 224,
        with_cp: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(arch, attn, attn_cfg, out_indices, with_cp, frozen_stages, init_cfg)
        self.embed_dims = tuple(self.arch['embed_dims'] * 2**i for i in range(self.num_stages))
        self.patch_embed = PatchEmbed(
            in_channels, self.embed_dims[0], PATCH_SIZE, pad=True, norm_eps=NORM_EPS
        )
        self.pos_drop = nn.Dropout(drop_rate)
        rates = drop_path_rates(drop_path_rate, self.arch['depths'])
        self.layers = nn.ModuleList()
        side = math.ceil(pretrain_img_size / PATCH_SIZE)
        for i, dims in enumerate(self.embed_dims):
            blocks = [
                self.build_block(
                    StageSpec(
                        dims,
                        self.arch['num_heads'][i],
                        stage=i,
                        block=j,
                        grid_size=side,
                        window_size=self.arch['window_size'],
                        drop_rate=drop_rate,
                    ),
                    mlp_ratio=self.arch['mlp_ratio'],
                    drop_path=rate,
                    norm_eps=NORM_EPS,
                )
                for j, rate in enumerate(rates[i])
            ]
            last = i == max(self.out_indices)
            self.layers.append(Stage(blocks, None if last else PatchMerging(dims)))
            if last:
                break
            side = math.ceil(side / 2)
        for i in self.out_indices:
            setattr(self, f'norm{i}', nn.LayerNorm(self.embed_dims[i], NORM_EPS))
        self.apply(init_linear)
        self.freeze()

    def stem_modules(self) -> list[nn.Module | nn.Parameter]:
        """The patch embedding."""
        return [self.patch_embed]

    def stage_modules(self, stage: int) -> list[nn.Module | nn.Parameter]:
        """All of a stage, its output norm included."""
        norm = [getattr(self, f'norm{stage}')] if stage in self.out_indices else []
        return [self.layers[stage], *norm] if stage < len(self.layers) else []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the stages in out_indices.

        Args:
            x: (B, 3, H, W) images, any H and W.

        Returns:
            One (B, C_i, H_i, W_i) a stage, at strides 4, 8, 16, 32.
        """
        x, hw_shape = self.patch_embed(x)
        x = self.pos_drop(x)
        maps = []
        for i, stage in enumerate(self.layers):
            for block in stage.blocks:
                x = self.run_block(block, x, hw_shape)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(x)
                maps.append(to_maps(out, hw_shape).contiguous())
            if stage.downsample is not None:
                x, hw_shape = stage.downsample(x, hw_shape)
        return tuple(maps)


@MODELS.register_module()
class CASwin(Swin):
    """Swin with circulant attention in stages 1 and 2, CA-Swin of arXiv 2512.21542.

    `Swin` describes the arguments.
    """

    default_attn = 'CCSS'


@MODELS.register_module()
class FLattenSwin(Swin):
    """Swin with focused linear attention in stages 1 and 2, FLatten-Swin of arXiv 2308.00442.

    `Swin` describes the arguments.
    """

    default_attn = 'LLSS'
