"""What every backbone shares: sizes, attention per stage, freezing, weights."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmca.checkpoint import load_pretrained
from mmca.errors import InputError
from mmca.layers import Block, StageSpec, build_attention
from mmca.layers.attention import SOFTMAX, check_options, get_attention, resolve_attn

ARCH_LETTERS = {'t': 'tiny', 's': 'small', 'm': 'medium', 'b': 'base', 'l': 'large'}


class Backbone(BaseModule):
    """Base of the backbones.

    A subclass defines `arch_zoo` (size name -> settings) and `softmax_attention`, and builds its
    modules under the parameter names of its original repository; `stem_modules` and
    `stage_modules` tell which belong to the stem and to each stage.

    Args:
        arch: a name of `arch_zoo`, its first letter, or a mapping, see :meth:`resolve_arch`.
        attn: attention of each stage; None is the class's `default_attn`.
        attn_cfg: options of attentions by name, such as dict(circulant=dict(scale='paper')).
        out_indices: stages whose maps are returned, from 0; None is the last.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        frozen_stages: -1 freezes nothing, 0 the patch embedding, n also the first n stages.
        init_cfg: None starts from scratch; dict(type='Pretrained', checkpoint=FILE) reads
            third-party weights of the family, with `min_share` and `gain` as for
            :func:`mmca.checkpoint.load_pretrained`.

    Attributes:
        arch_zoo: size name -> settings, the smallest size first.
        softmax_attention: registered name of the family's own attention, 'softmax' in `attn`.
        default_attn: the class's own `attn`.
        no_weight_decay: names of parameters that recipes without weight decay on position tables
            leave undecayed.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {}
    softmax_attention: ClassVar[str]
    default_attn: ClassVar[str] = 'S'
    no_weight_decay: ClassVar[Collection[str]] = ()

    def __init__(
        self,
        arch: str | Mapping | None,
        attn: str | Sequence[str] | None,
        attn_cfg: Mapping[str, Mapping] | None,
        out_indices: Sequence[int] | None,
        with_cp: bool,
        frozen_stages: int,
        init_cfg: dict | None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = self.resolve_arch(arch)
        self.num_stages = self.count_stages(self.arch)
        self.attn = resolve_attn(attn or self.default_attn, self.num_stages)
        self.attn_cfg = self.resolve_attn_cfg(attn_cfg)
        if out_indices is None:
            out_indices = (self.num_stages - 1,)
        if not out_indices or not set(out_indices) <= set(range(self.num_stages)):
            raise InputError(
                f'out_indices must be stages from 0 to {self.num_stages - 1}, got {out_indices!r}'
            )
        if not -1 <= frozen_stages <= self.num_stages:
            raise InputError(
                f'frozen_stages must be from -1 to {self.num_stages}, got {frozen_stages!r}'
            )
        self.out_indices = tuple(sorted(out_indices))
        self.with_cp = with_cp
        self.frozen_stages = frozen_stages

    @classmethod
    def resolve_arch(cls, arch: str | Mapping | None) -> dict:
        """The settings of a size.

        Args:
            arch: a name of `arch_zoo`, its first letter, or a mapping with the same keys; keys
                that are left out are those of the smallest size. None is the smallest.

        Returns:
            All settings.

        Raises:
            InputError: unknown name or key, or a list without one value a stage.
        """
        smallest = next(iter(cls.arch_zoo.values()))
        if arch is None:
            return dict(smallest)
        if isinstance(arch, Mapping):
            if unknown := set(arch) - set(smallest):
                raise InputError(
                    f'unknown keys {sorted(unknown)} in arch of {cls.__name__}; '
                    f'known are {sorted(smallest)}'
                )
            for key, value in arch.items():
                _check_setting(f'arch of {cls.__name__}: {key}', value, smallest[key])
            return {**smallest, **arch}
        name = ARCH_LETTERS.get(arch, arch)
        if name not in cls.arch_zoo:
            letters = [letter for letter, name in ARCH_LETTERS.items() if name in cls.arch_zoo]
            raise InputError(
                f'unknown arch {arch!r} of {cls.__name__}; known are {", ".join(cls.arch_zoo)}'
                + (f' (or {", ".join(letters)})' if letters else '')
            )
        return dict(cls.arch_zoo[name])

    @classmethod
    def count_stages(cls, arch: Mapping) -> int:
        """How many stages, each with an attention of its own, an arch has.

        Args:
            arch: from :meth:`resolve_arch`.
        """
        return len(arch['depths'])

    @classmethod
    def resolve_attn_cfg(cls, attn_cfg: Mapping[str, Mapping] | None) -> dict[str, dict]:
        """Options of attentions under their registered names.

        Args:
            attn_cfg: name of an attention, or 'softmax' for the family's own -> options. Those
                of attentions that no stage has are checked and have no effect.

        Returns:
            Registered name -> options.

        Raises:
            InputError: unknown attention or option, or options that are no mapping.
        """
        resolved: dict[str, dict] = {}
        for name, options in (attn_cfg or {}).items():
            if not isinstance(options, Mapping):
                raise InputError(
                    f'attn_cfg[{name!r}] must be a dict of options, got {options!r}: '
                    "write attn_cfg=dict(circulant=dict(scale='paper'))"
                )
            name = cls.attention_name(name)
            check_options(name, options)
            resolved.setdefault(name, {}).update(options)
        return resolved

    @classmethod
    def attention_name(cls, name: str) -> str:
        """The registered name of an attention; 'softmax' is the family's own."""
        return cls.softmax_attention if name == SOFTMAX else name

    def uses_cpe(self, stage: int) -> bool:
        """Whether the blocks of a stage have a positional convolution."""
        return get_attention(self.attention_name(self.attn[stage])).uses_cpe

    def build_block(self, spec: StageSpec, **settings: Any) -> Block:
        """A block with the attention of its stage.

        Args:
            spec: its place.
            settings: further arguments of :class:`mmca.layers.Block`.
        """
        name = self.attention_name(self.attn[spec.stage])
        attn = build_attention(name, spec, self.attn_cfg.get(name))
        return Block(spec.embed_dims, attn, cpe=attn.uses_cpe, drop=spec.drop_rate, **settings)

    def stem_modules(self) -> list[nn.Module | nn.Parameter]:
        """What frozen_stages >= 0 freezes."""
        raise NotImplementedError

    def stage_modules(self, stage: int) -> list[nn.Module | nn.Parameter]:
        """What frozen_stages > stage freezes besides."""
        raise NotImplementedError

    def run_block(self, block: Block, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """One block, (B, N, C) -> (B, N, C), recomputed in the backward pass if with_cp."""
        if self.with_cp and x.requires_grad:
            return checkpoint(block, x, hw_shape, use_reentrant=False)
        return block(x, hw_shape)

    def freeze(self) -> None:
        """Take the frozen stages out of training: no gradients, no dropout."""
        if self.frozen_stages < 0:
            return
        frozen = self.stem_modules()
        for stage in range(self.frozen_stages):
            frozen += self.stage_modules(stage)
        for item in frozen:
            item.requires_grad_(False)
            if isinstance(item, nn.Module):
                item.eval()

    def train(self, mode: bool = True) -> 'Backbone':
        """Switch the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self.freeze()
        return self

    def init_weights(self) -> None:
        """Fill in the pretrained weights of init_cfg, or say that training starts from scratch.

        Raises:
            InputError: the checkpoint is missing, corrupt or of another model.
        """
        logger = MMLogger.get_current_instance()
        name = type(self).__name__
        if self.init_cfg is None:
            logger.warning(f'{name}: no pretrained weights, training starts from scratch.')
        elif self.init_cfg.get('type') == 'Pretrained':
            options = {key: value for key, value in self.init_cfg.items() if key != 'type'}
            if unknown := set(options) - {'checkpoint', 'min_share', 'gain'}:
                raise InputError(
                    f'unknown keys {sorted(unknown)} in init_cfg of {name}; with type Pretrained '
                    'known are checkpoint, min_share, gain (prefixes are found by themselves)'
                )
            if not options.get('checkpoint'):
                raise InputError(f'init_cfg of {name} names no checkpoint')
            logger.info(load_pretrained(self, options.pop('checkpoint'), **options))
        else:
            super().init_weights()


def _check_setting(label: str, value: Any, example: Any) -> None:
    """Refuse a setting that has not as many values as the one in `arch_zoo`."""
    wanted = len(example) if isinstance(example, tuple) else None
    given = len(value) if isinstance(value, Sequence) and not isinstance(value, str) else None
    if wanted == given:
        return
    if wanted is None:
        raise InputError(f'{label} must be one number such as {example!r}, got {value!r}')
    count = '' if given is None else f'{given} values: '
    raise InputError(f'{label} must have {wanted} values, one a stage, got {count}{value!r}')


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Stochastic depth rates, growing linearly from 0 to `rate` over all blocks.

    Args:
        rate: the last block's rate.
        depths: blocks in each stage.

    Returns:
        One list a stage.
    """
    step = rate / max(sum(depths) - 1, 1)
    blocks = iter(range(sum(depths)))
    return [[step * next(blocks) for _ in range(depth)] for depth in depths]


def init_linear(module: nn.Module) -> None:
    """Linear layers from a normal of deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        # The originals call trunc_normal_, which cuts at -2 and 2, a hundred deviations away: the
        # same numbers, and more time to build a model.
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
