"""What every backbone shares: sizes, attention per stage, freezing, weights."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmca.checkpoint import load_pretrained
from mmca.errors import InputError
from mmca.layers import Block

ATTENTIONS = {'C': 'circulant', 'L': 'linear', 'S': 'softmax'}
ARCH_LETTERS = {'t': 'tiny', 's': 'small', 'm': 'medium', 'b': 'base', 'l': 'large'}


def resolve_attn(attn: str | Sequence[str], num_stages: int) -> tuple[str, ...]:
    """Name the attention of every stage.

    Args:
        attn: one letter ('CCSS') or one name (['circulant', ..., 'softmax']) a stage, or a single
            one ('C', 'circulant') for all.
        num_stages: how many stages there are.

    Returns:
        One name of `ATTENTIONS` for every stage.

    Raises:
        InputError: unknown name or wrong number of stages.
    """
    items = (attn,) if isinstance(attn, str) and attn in ATTENTIONS.values() else tuple(attn)
    names = tuple(ATTENTIONS.get(item, item) for item in items)
    known = ', '.join(f'{name!r} ({letter})' for letter, name in ATTENTIONS.items())
    for name in names:
        if name not in ATTENTIONS.values():
            raise InputError(f'unknown attention {name!r} in attn={attn!r}; known are {known}')
    if len(names) == 1:
        return names * num_stages
    if len(names) != num_stages:
        raise InputError(
            f'attn={attn!r} names {len(names)} stages, the backbone has {num_stages}: '
            'give one letter or name a stage, such as "CCSS", or a single one for all'
        )
    return names


class Backbone(BaseModule):
    """Base of the backbones.

    A subclass defines `arch_zoo` (size name -> settings) and builds its modules under the
    parameter names of its original repository; `stem_modules` and `stage_modules` tell which
    belong to the stem and to each stage.

    Args:
        init_cfg: None starts from scratch; dict(type='Pretrained', checkpoint=FILE) reads
            anybody's weights of the family, with `min_share` and `gain` as for
            :func:`mmca.checkpoint.load_pretrained`.
        out_indices: stages whose maps are returned, from 0.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        frozen_stages: -1 freezes nothing, 0 the patch embedding, n also the first n stages.
        num_stages: how many stages there are.
    """

    arch_zoo: ClassVar[Mapping[str, Mapping]] = {}

    def __init__(
        self,
        out_indices: Sequence[int],
        with_cp: bool,
        frozen_stages: int,
        init_cfg: dict | None,
        num_stages: int = 4,
    ) -> None:
        super().__init__(init_cfg)
        self.num_stages = num_stages
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
            InputError: unknown name or key.
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
            return {**smallest, **arch}
        name = ARCH_LETTERS.get(arch, arch)
        if name not in cls.arch_zoo:
            letters = [letter for letter, name in ARCH_LETTERS.items() if name in cls.arch_zoo]
            raise InputError(
                f'unknown arch {arch!r} of {cls.__name__}; known are {", ".join(cls.arch_zoo)}'
                + (f' (or {", ".join(letters)})' if letters else '')
            )
        return dict(cls.arch_zoo[name])

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
