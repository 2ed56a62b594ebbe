"""DeiT with a choice of attention for each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmca.backbones.base import Backbone
from mmca.errors import InputError
from mmca.layers import PatchEmbed
from mmca.layers.attention import get_attention
from mmca.layers.position import resize_tokens
from mmca.registry import MODELS

PATCH_SIZE = 16
OUT_TYPES = ('featmap', 'cls_token')


def _arch(embed_dims: int, num_heads: int) -> dict:
    return {'embed_dims': embed_dims, 'depth': 12, 'num_heads': num_heads, 'mlp_ratio': 4}


@MODELS.register_module()
class DeiT(Backbone):
    """DeiT (arXiv 2012.12877) with a choice of attention for each block.

    Returns one map at stride 16, after the final norm. For FPN-style heads, add
    `mmca.SimpleFeaturePyramid`. Parameter names are the original's: `patch_embed.proj`,
    `cls_token`, `pos_embed`, `blocks.{j}`, `norm`.

    `Backbone` describes the arguments not listed here; each block is a stage. `arch` is 'tiny',
    'small', 'base' (or t, s, b), or a mapping of `embed_dims`, `depth`, `num_heads`, `mlp_ratio`.
    The default `attn` is softmax (global) in DeiT, circulant in CADeiT. frozen_stages=0 freezes
    patch embedding, position embedding and class token.

    Args:
        pos_embed: whether the model has a position embedding; it must agree with the weights.
            None is True in DeiT, False in CADeiT.
        with_cls_token: whether the model has a class token, as the original does. Blocks whose
            attention has `special_tokens` (softmax, K, X) process it; others do not.
        out_type: 'featmap', or 'cls_token' for a classifier that reads the class token.

    Raises:
        InputError: unknown arch, attention, option or out_type; a class token that no block
            supports or that the model lacks.

    Example:
        >>> import torch
        >>> (out,) = CADeiT('tiny')(torch.zeros(1, 3, 64, 96))
        >>> out.shape
        torch.Size([1, 192, 4, 6])
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {
        'tiny': _arch(192, 3),
        'small': _arch(384, 6),
        'base': _arch(768, 12),
    }
    softmax_attention = 'global'
    stem = ('patch_embed', 'pos_embed', 'cls_token')
    stage_parts = ('blocks.{i}',)
    no_weight_decay = ('pos_embed', 'cls_token')
    pyramid = False
    default_pos_embed: ClassVar[bool] = True

    def build(
        self,
        in_channels: int,
        img_size: int,
        pos_embed: bool | None = None,
        with_cls_token: bool = False,
        out_type: str = 'featmap',
    ) -> None:
        classes = [get_attention(self.attention_name(name)) for name in self.attn]
        self.takes_token = [attention.special_tokens for attention in classes]
        if with_cls_token and not any(self.takes_token):
            raise InputError(
                'with_cls_token=True needs a block whose attention supports it, such as softmax, '
                f'got attn={"".join(self.attn)!r}'
            )
        if out_type not in OUT_TYPES[: 1 + with_cls_token]:
            raise InputError(
                f"out_type must be 'featmap', or 'cls_token' with a class token, got {out_type!r}"
            )
        self.out_type = out_type

        self.embed_dims = dims = self.arch['embed_dims']
        grid_size = -(-img_size // PATCH_SIZE)
        self.patch_embed = PatchEmbed(in_channels, dims, PATCH_SIZE, pad=True)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims)) if with_cls_token else None
        pos_embed = self.default_pos_embed if pos_embed is None else pos_embed
        tokens = grid_size**2 + with_cls_token
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, dims)) if pos_embed else None
        for embedding in (self.cls_token, self.pos_embed):
            if embedding is not None:
                nn.init.trunc_normal_(embedding, std=0.02)
        heads, ratio = self.arch['num_heads'], self.arch['mlp_ratio']
        self.blocks = nn.ModuleList(
            self.build_blocks(i, dims, heads, ratio, grid_size=grid_size, window_size=None)[0]
            for i in range(self.num_stages)
        )
        self.norm = nn.LayerNorm(dims, self.norm_eps)

    @property
    def channels(self) -> tuple[int]:
        return (self.embed_dims,)

    @property
    def strides(self) -> tuple[int]:
        return (PATCH_SIZE,)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(B, 3, H, W), any H and W -> one (B, C, H', W'), or the class token (B, C)."""
        x, hw_shape = self.patch_embed(x)
        token = None if self.cls_token is None else self.cls_token.expand(len(x), -1, -1)
        if self.pos_embed is not None:
            extra = 0 if token is None else 1
            x = x + resize_tokens(self.pos_embed[:, extra:], hw_shape)
            token = token + self.pos_embed[:, :1] if extra else None
        x = self.pos_drop(x)
        token = None if token is None else self.pos_drop(token)
        for block, takes_token in zip(self.blocks, self.takes_token):
            if token is None or not takes_token:
                x = self.run_block(block, x, hw_shape)
            else:
                joined = self.run_block(block, torch.cat([token, x], 1), hw_shape)
                token, x = joined[:, :1], joined[:, 1:]
        if self.out_type == 'cls_token':
            return (self.norm(token)[:, 0],)
        return (self.norm(x).mT.contiguous().unflatten(2, hw_shape),)


@MODELS.register_module()
class CADeiT(DeiT):
    """DeiT with circulant attention in all blocks, CA-DeiT (arXiv 2512.21542).

    By default, it has no position embedding, because every block has a 3 x 3 positional
    convolution. To start from DeiT weights, which contain a position embedding, set pos_embed=True.
    """

    default_attn = 'C'
    default_pos_embed = False
