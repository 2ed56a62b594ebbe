"""DeiT whose attention is chosen block by block."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmca.backbones.base import Backbone, drop_path_rates, init_linear
from mmca.checkpoint import starts_with
from mmca.errors import InputError
from mmca.layers import PatchEmbed, StageSpec
from mmca.layers.position import resize_tokens
from mmca.ops.layout import to_maps
from mmca.registry import MODELS

PATCH_SIZE = 16
NORM_EPS = 1e-6
OUT_TYPES = ('featmap', 'cls_token')


def _arch(embed_dims: int, num_heads: int) -> dict:
    return {'embed_dims': embed_dims, 'depth': 12, 'num_heads': num_heads, 'mlp_ratio': 4}


@MODELS.register_module()
class DeiT(Backbone):
    """DeiT (arXiv 2012.12877), the attention of each block a parameter.

    One map, at stride 16, after the final norm; `mmca.SimpleFeaturePyramid` makes the levels
    that FPN-style heads want. Parameter names are those of the original: `patch_embed.proj`,
    `cls_token`, `pos_embed`, `blocks.{j}`, `norm`.

    Args:
        arch: 'tiny', 'small', 'base' (or t, s, b), or a mapping of `embed_dims`, `depth`,
            `num_heads`, `mlp_ratio`; what it leaves out is as in 'tiny'. None is the
            smallest.
        attn: attention of the blocks, a name such as 'circulant', 'linear', 'softmax' (or a
            letter, C, L, S) for all, or one a block. None is the class's own: softmax (over all
            tokens) here, circulant in CADeiT.
        attn_cfg: options of attentions by name, such as dict(circulant=dict(scale='paper'),
            linear=dict(focusing_factor=4)).
        in_channels: channels of the image.
        drop_rate: dropout rate after the patch embedding, in MLPs and projections.
        drop_path_rate: stochastic depth rate of the last block, growing linearly from 0.
        pretrain_img_size: side in pixels that `pos_embed`, and the linear blocks'
            `positional_encoding`, belong to; they are resized bilinearly for other grids.
        pos_embed: whether there is a position embedding. None keeps that of a checkpoint, in
            `init_cfg` or loaded later; without one, there is none where the first block has a
            positional convolution, as circulant blocks do.
        with_cls_token: whether there is a class token, as in the original. It takes part in the
            blocks of global softmax attention and passes by the others, whose attention needs a
            grid.
        out_type: 'featmap', or 'cls_token' for a classifier that reads the class token.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        frozen_stages: -1 freezes nothing, 0 the patch and position embedding, n also the first
            n blocks.
        init_cfg: None, or dict(type='Pretrained', checkpoint=FILE) with DeiT or CA-DeiT weights.

    Raises:
        InputError: unknown arch, attention, option or out_type; a class token without a block
            that it takes part in, or asked for where there is none.

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
    no_weight_decay = ('pos_embed', 'cls_token')

    def __init__(
        self,
        arch: str | Mapping | None = None,
        attn: str | Sequence[str] | None = None,
        attn_cfg: Mapping[str, Mapping] | None = None,
        in_channels: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        pretrain_img_size: int = 224,
        pos_embed: bool | None = None,
        with_cls_token: bool = False,
        out_type: str = 'featmap',
        with_cp: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(arch, attn, attn_cfg, None, with_cp, frozen_stages, init_cfg)
        self.embed_dims = dims = self.arch['embed_dims']
        grid_size = -(-pretrain_img_size // PATCH_SIZE)

        self.takes_token = [self.attention_name(name) == 'global' for name in self.attn]
        if with_cls_token and not any(self.takes_token):
            raise InputError(
                'with_cls_token=True needs a block of softmax attention, '
                f'got attn={"".join(self.attn)!r}'
            )
        if out_type not in OUT_TYPES:
            raise InputError(f'out_type must be one of {OUT_TYPES}, got {out_type!r}')
        if out_type == 'cls_token' and not with_cls_token:
            raise InputError("out_type='cls_token' needs with_cls_token=True")
        self.out_type = out_type

        self.patch_embed = PatchEmbed(in_channels, dims, PATCH_SIZE, pad=True)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims)) if with_cls_token else None
        self.adopts_pos_embed = pos_embed is None
        if pos_embed is None:
            pos_embed = not self.uses_cpe(0) or starts_with('pos_embed', init_cfg)
        tokens = grid_size**2 + with_cls_token
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, dims)) if pos_embed else None
        for embedding in (self.cls_token, self.pos_embed):
            if embedding is not None:
                nn.init.trunc_normal_(embedding, std=0.02)
        self.pos_drop = nn.Dropout(drop_rate)
        (rates,) = drop_path_rates(drop_path_rate, [self.num_stages])
        self.blocks = nn.ModuleList(
            self.build_block(
                StageSpec(
                    dims, self.arch['num_heads'], stage=i, grid_size=grid_size, drop_rate=drop_rate
                ),
                mlp_ratio=self.arch['mlp_ratio'],
                drop_path=rate,
                norm_eps=NORM_EPS,
            )
            for i, rate in enumerate(rates)
        )
        self.norm = nn.LayerNorm(dims, NORM_EPS)
        self.apply(init_linear)
        self.freeze()

    @classmethod
    def count_stages(cls, arch: Mapping) -> int:
        """Every block is a stage of its own."""
        return arch['depth']

    def stem_modules(self) -> list[nn.Module | nn.Parameter]:
        """The patch and position embedding and the class token."""
        embeddings = (self.pos_embed, self.cls_token)
        return [self.patch_embed, *(x for x in embeddings if x is not None)]

    def stage_modules(self, stage: int) -> list[nn.Module | nn.Parameter]:
        """One block; the last with the final norm."""
        return [self.blocks[stage], *([self.norm] if stage == len(self.blocks) - 1 else [])]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The feature map, or the class token, after the final norm.

        Args:
            x: (B, 3, H, W) images, any H and W.

        Returns:
            One (B, C, H', W') at stride 16, H' and W' rounded up; or one (B, C).
        """
        x, hw_shape = self.patch_embed(x)
        token = None if self.cls_token is None else self.cls_token.expand(len(x), -1, -1)
        if self.pos_embed is not None:
            extra = 0 if token is None else 1
            x = x + resize_tokens(self.pos_embed[:, extra:], hw_shape)
            token = token + self.pos_embed[:, :1] if extra else None
        x = self.pos_drop(x)
        token = None if token is None else self.pos_drop(token)
        for block, takes_token in zip(self.blocks, self.takes_token, strict=True):
            if token is None or not takes_token:
                x = self.run_block(block, x, hw_shape)
            else:  # this attention does not mind that the tokens form no grid
                joined = torch.cat([token, x], 1)
                joined = self.run_block(block, joined, (1, joined.shape[1]))
                token, x = joined[:, :1], joined[:, 1:]
        if self.out_type == 'cls_token':
            return (self.norm(token)[:, 0],)
        return (to_maps(self.norm(x), hw_shape).contiguous(),)

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args: Any) -> None:
        """Take over a trained model's position embedding, with or without its first weights."""
        found = state_dict.get(f'{prefix}pos_embed')
        if self.pos_embed is None and self.adopts_pos_embed and found is not None:
            self.pos_embed = nn.Parameter(self.patch_embed.proj.weight.new_zeros(found.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class CADeiT(DeiT):
    """DeiT with circulant attention in all blocks, CA-DeiT of arXiv 2512.21542.

    Every block has a 3 x 3 positional convolution, so there is no position embedding unless the
    weights that it starts from have one; `DeiT` describes the arguments.
    """

    default_attn = 'C'
