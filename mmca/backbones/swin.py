"""Swin Transformers with a choice of attention for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from mmca.backbones.base import Backbone
from mmca.layers import PatchEmbed
from mmca.ops.padding import pad_to_multiple
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
    """Concatenate 2 x 2 adjacent tokens, normalize, reduce from 4C to 2C channels."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * embed_dims, eps=NORM_EPS)
        self.reduction = nn.Linear(4 * embed_dims, 2 * embed_dims, bias=False)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """(B, H * W, C) -> (B, H' * W', 2C) and (H', W'), halved and rounded up."""
        x = pad_to_multiple(x.mT.unflatten(2, hw_shape), 2).permute(0, 2, 3, 1)
        hw_shape = (x.shape[1] // 2, x.shape[2] // 2)
        # Channel blocks in the original's order: (0, 0), (1, 0), (0, 1), (1, 1).
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.flatten(3).flatten(1, 2))), hw_shape


class Stage(nn.Module):
    """The blocks of a stage and, except in the last stage, patch merging."""

    def __init__(self, blocks: nn.ModuleList, downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = blocks
        self.downsample = downsample


@MODELS.register_module()
class Swin(Backbone):
    """Swin Transformer (arXiv 2103.14030) with a choice of attention for each stage.

    Parameter names are the original detection code's: `patch_embed`, `layers.{i}.blocks.{j}`,
    `layers.{i}.downsample`, `norm{i}`, i from 0. Circulant and linear stages attend to the whole
    grid, without windows or shift.

    `Backbone` describes the arguments. `arch` is 'tiny', 'small', 'base' (or t, s, b), or a mapping
    of `embed_dims` (first stage; it doubles), `depths`, `num_heads`, `mlp_ratio`, `window_size`.
    The default `attn` is softmax (windows) in Swin, CCSS in CASwin, LLSS in FLattenSwin.

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
    stem = ('patch_embed',)
    stage_parts = ('layers.{i}', 'norm{i}')
    norm_eps = NORM_EPS
    default_drop_path = 0.2

    def build(self, in_channels: int, img_size: int) -> None:
        self.embed_dims = tuple(self.arch['embed_dims'] * 2**i for i in range(self.num_stages))
        self.patch_embed = PatchEmbed(
            in_channels, self.embed_dims[0], PATCH_SIZE, pad=True, norm_eps=self.norm_eps
        )
        self.layers = nn.ModuleList()
        side, last = -(-img_size // PATCH_SIZE), max(self.out_indices)
        for i, dims in enumerate(self.embed_dims[: last + 1]):
            blocks = self.build_blocks(
                i,
                dims,
                self.arch['num_heads'][i],
                self.arch['mlp_ratio'],
                grid_size=side,
                window_size=self.arch['window_size'],
            )
            self.layers.append(Stage(blocks, None if i == last else PatchMerging(dims)))
            side = -(-side // 2)
        for i in self.out_indices:
            setattr(self, f'norm{i}', nn.LayerNorm(self.embed_dims[i], self.norm_eps))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), any H and W -> (B, C_i, H_i, W_i) for each stage in out_indices."""
        x, hw_shape = self.patch_embed(x)
        x = self.pos_drop(x)
        maps = []
        for i, stage in enumerate(self.layers):
            for block in stage.blocks:
                x = self.run_block(block, x, hw_shape)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(x)
                maps.append(out.mT.contiguous().unflatten(2, hw_shape))
            if stage.downsample is not None:
                x, hw_shape = stage.downsample(x, hw_shape)
        return tuple(maps)


@MODELS.register_module()
class CASwin(Swin):
    """Swin with circulant attention in stages 1 and 2, CA-Swin (arXiv 2512.21542)."""

    default_attn = 'CCSS'


@MODELS.register_module()
class FLattenSwin(Swin):
    """Swin with focused linear attention in stages 1 and 2, FLatten-Swin (arXiv 2308.00442)."""

    default_attn = 'LLSS'
