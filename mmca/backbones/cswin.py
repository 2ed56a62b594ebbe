"""CSwin Transformers with a choice of attention for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from mmca.backbones.base import Backbone
from mmca.ops.layout import to_maps, to_tokens
from mmca.ops.padding import pad_to_minimum
from mmca.registry import MODELS

STRIDE = 4
NORM_EPS = 1e-5


def _arch(embed_dims: int, depths: tuple, num_heads: tuple, drop_path_rate: float) -> dict:
    return {
        'embed_dims': embed_dims,
        'depths': depths,
        'num_heads': num_heads,
        'mlp_ratio': 4,
        'stripe_widths': (1, 2, 7, None),
        'drop_path_rate': drop_path_rate,
    }


class Merge(nn.Module):
    """Halve a token grid by a 3 x 3 convolution of stride 2, `conv`, then LayerNorm, `norm`."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(embed_dims, 2 * embed_dims, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(2 * embed_dims, NORM_EPS)

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """(B, H * W, C) -> (B, H' * W', 2C) and (H', W'), halved and rounded up."""
        maps = self.conv(to_maps(x, hw_shape))
        return self.norm(to_tokens(maps)), (maps.shape[2], maps.shape[3])


@MODELS.register_module()
class CSwin(Backbone):
    """CSwin Transformer (arXiv 2107.00652) with a choice of attention for each stage.

    Parameter names are the original code's: `stage1_conv_embed`, `stage{i}.{j}`, `merge{i}`,
    `norm{i}`, i from 1. As there, softmax and linear blocks contain the projections of
    their attention; the others have `attn`, as in the other families.

    `Backbone` describes the arguments. `arch` is 'tiny', 'small', 'base' (or t, s, b), or a mapping
    of `embed_dims` (first stage; it doubles), `depths`, `num_heads`, `mlp_ratio`, `drop_path_rate`
    and `stripe_widths`, where None makes the whole grid one window, as in the last stage of the
    original's segmentation code. The default `attn` is softmax (stripes) in CSwin, CCSS in
    CACSwin, LLSS in FLattenCSwin.

    Example:
        >>> import torch
        >>> maps = FLattenCSwin('tiny')(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 64, 16, 24), (1, 128, 8, 12), (1, 256, 4, 6), (1, 512, 2, 3)]
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'tiny': _arch(64, (1, 2, 21, 1), (2, 4, 8, 16), 0.2),
        'small': _arch(64, (2, 4, 32, 2), (2, 4, 8, 16), 0.4),
        'base': _arch(96, (2, 4, 32, 2), (4, 8, 16, 32), 0.5),
    }
    softmax_attention = 'stripes'
    stem = ('stage1_conv_embed',)
    stage_parts = ('merge{i}', 'stage{n}', 'norm{n}')
    norm_eps = NORM_EPS

    def build(self, in_channels: int, img_size: int) -> None:
        self.embed_dims = tuple(self.arch['embed_dims'] * 2**i for i in range(self.num_stages))
        first, last = self.embed_dims[0], max(self.out_indices)
        # The release's names: its number 1 rearranges maps to tokens.
        self.stage1_conv_embed = nn.ModuleDict(
            {
                '0': nn.Conv2d(in_channels, first, 7, stride=STRIDE, padding=2),
                '2': nn.LayerNorm(first, NORM_EPS),
            }
        )
        # Recipes exempt norms from weight decay by their names, and this one has none.
        self.stage1_conv_embed['2'].no_weight_decay = ('weight', 'bias')
        side = max((img_size + 1) // STRIDE, 1)
        for i, dims in enumerate(self.embed_dims[: last + 1]):
            if i > 0:
                setattr(self, f'merge{i}', Merge(dims // 2))
                side = -(-side // 2)
            blocks = self.build_blocks(
                i,
                dims,
                self.arch['num_heads'][i],
                self.arch['mlp_ratio'],
                grid_size=side,
                window_size=self.arch['stripe_widths'][i],
                projects=False,
                lepe=True,
            )
            setattr(self, f'stage{i + 1}', blocks)
            if i in self.out_indices:
                setattr(self, f'norm{i + 1}', nn.LayerNorm(dims, NORM_EPS))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), any H and W -> (B, C_i, H_i, W_i) for each stage in out_indices."""
        # Its border of 2 leaves the 7 x 7 convolution one position in an image of 3 pixels.
        maps = self.stage1_conv_embed['0'](pad_to_minimum(x, 3))
        hw_shape = (maps.shape[2], maps.shape[3])
        x = self.pos_drop(self.stage1_conv_embed['2'](to_tokens(maps)))
        outs = []
        for i in range(max(self.out_indices) + 1):
            if i > 0:
                x, hw_shape = getattr(self, f'merge{i}')(x, hw_shape)
            for block in getattr(self, f'stage{i + 1}'):
                x = self.run_block(block, x, hw_shape)
            if i in self.out_indices:
                out = getattr(self, f'norm{i + 1}')(x)
                outs.append(out.mT.contiguous().unflatten(2, hw_shape))
        return tuple(outs)


@MODELS.register_module()
class CACSwin(CSwin):
    """CSwin with circulant attention in stages 1 and 2 (not in any paper)."""

    default_attn = 'CCSS'


@MODELS.register_module()
class FLattenCSwin(CSwin):
    """CSwin with focused linear attention in stages 1 and 2, FLatten-CSwin (arXiv 2308.00442).

    Its depths differ from CSwin's.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'tiny': _arch(64, (2, 4, 18, 1), (2, 4, 8, 16), 0.2),
        'small': _arch(64, (2, 4, 32, 2), (2, 4, 8, 16), 0.4),
        'base': _arch(96, (3, 6, 29, 2), (4, 8, 16, 32), 0.5),
    }
    default_attn = 'LLSS'
