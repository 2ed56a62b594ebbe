"""Shared by all backbones: sizes, attention per stage, freezing, weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmca.checkpoint import load_pretrained
from mmca.errors import InputError
from mmca.layers import Block, ProjectingBlock, StageSpec, build_attention
from mmca.layers.attention import SOFTMAX, check_options, resolve_attn

ARCH_LETTERS = {'t': 'tiny', 's': 'small', 'm': 'medium', 'b': 'base', 'l': 'large'}


class Backbone(BaseModule):
    """Base class of the backbones.

    A subclass defines the class attributes, `forward`, and :meth:`build`, which builds its modules
    with the parameter names of the original repository.

    Args:
        arch: a name in `arch_zoo`, its first letter, or a mapping that overrides the smallest size;
            None is the smallest size.
        attn: attention of each stage, 'CCSS' or a list of names such as 'circulant', 'linear',
            'softmax'; one letter or name for all stages. None is the class's `default_attn`.
        attn_cfg: options of attentions by name, such as dict(circulant=dict(scale='paper'),
            linear=dict(focusing_factor=4)); 'softmax' stands for the family's own attention.
        in_channels: number of image channels.
        out_indices: stages whose maps are returned, from 0. None is all stages in a pyramid.
        drop_rate: dropout rate after the embedding, in MLPs and projections.
        drop_path_rate: stochastic depth rate of the last block, growing linearly from 0. None is
            the rate of `arch` or, if it has none, the class's `default_drop_path`.
        pretrain_img_size: image side in pixels for position embeddings and the linear stages'
            `positional_encoding`, which are resized bilinearly for other images.
        with_cp: recompute activations in the backward pass instead of keeping them.
        frozen_stages: -1 freezes nothing, 0 the embedding, n also the first n stages.
        init_cfg: None starts from scratch; dict(type='Pretrained', checkpoint=FILE) loads
            third-party weights of the family, see :func:`mmca.checkpoint.load_pretrained`.
        options: arguments of the family's :meth:`build`.

    Attributes:
        arch_zoo: size name -> settings, the smallest size first.
        softmax_attention: registered name of the family's own attention, 'softmax' in `attn`.
        stem: modules and parameters that frozen_stages >= 0 freezes.
        stage_parts: those that frozen_stages > i also freezes, with fields for i and n = i + 1.
        default_attn: default of `attn`.
        no_weight_decay: parameters that recipes without weight decay on position tables exempt.
        norm_eps: eps of the blocks' LayerNorms.
        default_drop_path: default of `drop_path_rate`.
        pyramid: whether each stage returns a map; otherwise only the last does.

    Raises:
        InputError: unknown arch, attention, option or stage index.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {}
    softmax_attention: ClassVar[str]
    stem: ClassVar[Sequence[str]]
    stage_parts: ClassVar[Sequence[str]]
    default_attn: ClassVar[str] = 'S'
    no_weight_decay: ClassVar[Collection[str]] = ()
    norm_eps: ClassVar[float] = 1e-6
    default_drop_path: ClassVar[float] = 0.1
    pyramid: ClassVar[bool] = True

    def __init__(
        self,
        arch: str | Mapping | None = None,
        attn: str | Sequence[str] | None = None,
        attn_cfg: Mapping[str, Mapping] | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float | None = None,
        pretrain_img_size: int = 224,
        with_cp: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = self.resolve_arch(arch)
        depths = self.arch.get('depths') or [1] * self.arch['depth']  # of blocks, in DeiT
        self.num_stages = len(depths)
        self.attn = resolve_attn(attn or self.default_attn, self.num_stages)
        self.attn_cfg = self.resolve_attn_cfg(attn_cfg)
        stages = range(0 if self.pyramid else self.num_stages - 1, self.num_stages)
        out_indices = stages if out_indices is None else out_indices
        if not out_indices or not set(out_indices) <= set(stages):
            raise InputError(
                f'out_indices must be stages from {stages[0]} to {stages[-1]}, got {out_indices!r}'
            )
        self.out_indices = tuple(sorted(out_indices))
        self.with_cp = with_cp
        self.frozen_stages = frozen_stages
        self.drop_rate = drop_rate
        self.pos_drop = nn.Dropout(drop_rate)
        rate = self.arch.get('drop_path_rate', self.default_drop_path)
        rate = rate if drop_path_rate is None else drop_path_rate
        step, blocks = rate / max(sum(depths) - 1, 1), iter(range(sum(depths)))
        self.drop_path_rates = [[step * next(blocks) for _ in range(depth)] for depth in depths]
        self.build(in_channels, pretrain_img_size, **options)
        self.apply(init_linear)
        self.train()

    def build(self, in_channels: int, img_size: int) -> None:
        """Build the modules of all stages up to the last in out_indices."""
        raise NotImplementedError

    @classmethod
    def resolve_arch(cls, arch: str | Mapping | None) -> dict:
        smallest = next(iter(cls.arch_zoo.values()))
        if isinstance(arch, Mapping):
            if unknown := set(arch) - set(smallest):
                raise InputError(
                    f'unknown keys {sorted(unknown)} in arch of {cls.__name__}; '
                    f'choose from {sorted(smallest)}'
                )
            for key, value in arch.items():
                wanted, given = _length(smallest[key]), _length(value)
                if wanted != given:
                    form = f'{wanted} values, one per stage' if wanted else 'one number'
                    raise InputError(
                        f'arch of {cls.__name__}: {key} must have {form}, such as '
                        f'{smallest[key]!r}, got {value!r}'
                    )
            return {**smallest, **arch}
        name = ARCH_LETTERS.get(arch, arch) or next(iter(cls.arch_zoo))
        if name not in cls.arch_zoo:
            raise InputError(
                f'unknown arch {arch!r} of {cls.__name__}; choose from {", ".join(cls.arch_zoo)}'
            )
        return dict(cls.arch_zoo[name])

    @classmethod
    def resolve_attn_cfg(cls, attn_cfg: Mapping[str, Mapping] | None) -> dict[str, dict]:
        """Collect options under registered names; check unused attentions as well."""
        resolved: dict[str, dict] = {}
        for name, options in (attn_cfg or {}).items():
            name = cls.attention_name(name)
            check_options(name, options)
            resolved.setdefault(name, {}).update(options)
        return resolved

    @classmethod
    def attention_name(cls, name: str) -> str:
        """Registered name of an attention; 'softmax' is the family's own."""
        return cls.softmax_attention if name == SOFTMAX else name

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map that the backbone returns."""
        return tuple(self.embed_dims[i] for i in self.out_indices)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride in image pixels of each map that the backbone returns."""
        return tuple(4 * 2**i for i in self.out_indices)

    def build_blocks(
        self,
        stage: int,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float,
        mlp_conv: bool = False,
        **place: Any,
    ) -> nn.ModuleList:
        """Build a stage's blocks; `place` continues :class:`mmca.layers.StageSpec`."""
        name, blocks = self.attention_name(self.attn[stage]), nn.ModuleList()
        for index, rate in enumerate(self.drop_path_rates[stage]):
            spec = StageSpec(embed_dims, num_heads, stage, index, drop_rate=self.drop_rate, **place)
            attn = build_attention(name, spec, self.attn_cfg.get(name))
            block = Block if attn.projects else ProjectingBlock
            blocks.append(
                block(
                    embed_dims,
                    attn,
                    mlp_ratio,
                    cpe=attn.uses_cpe,
                    mlp_conv=mlp_conv,
                    drop=self.drop_rate,
                    drop_path=rate,
                    norm_eps=self.norm_eps,
                )
            )
        return blocks

    def run_block(self, block: Block, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Run one block, (B, N, C) -> (B, N, C); recompute it in the backward pass if with_cp."""
        if self.with_cp and x.requires_grad:
            return checkpoint(block, x, hw_shape, use_reentrant=False)
        return block(x, hw_shape)

    def train(self, mode: bool = True) -> Backbone:
        """Switch the mode; frozen stages stay in evaluation mode, without gradients."""
        super().train(mode)
        names = list(self.stem) if self.frozen_stages >= 0 else []
        for i in range(self.frozen_stages):
            names += [part.format(i=i, n=i + 1) for part in self.stage_parts]
        if self.frozen_stages == self.num_stages:
            names.append('norm')  # of DeiT
        parts = dict(self.named_modules()) | dict(self.named_parameters())
        for part in (parts[name] for name in names if name in parts):
            part.requires_grad_(False)
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def init_weights(self) -> None:
        """Load the pretrained weights of init_cfg, or log that training starts from scratch."""
        logger = MMLogger.get_current_instance()
        if self.init_cfg is None:
            logger.warning(
                f'{type(self).__name__}: no pretrained weights; training starts from scratch.'
            )
        elif self.init_cfg.get('type') == 'Pretrained':
            options = {key: value for key, value in self.init_cfg.items() if key != 'type'}
            logger.info(load_pretrained(self, **options))
        else:
            super().init_weights()


def _length(setting: Any) -> int | None:
    return len(setting) if isinstance(setting, (tuple, list)) else None


def init_linear(module: nn.Module) -> None:
    """Initialize linear layers from a normal of deviation 0.02, biases with zero."""
    if isinstance(module, nn.Linear):
        # The originals' trunc_normal_ cuts at -2 and 2, a hundred deviations away.
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
