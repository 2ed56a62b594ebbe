"""The interface of attentions and their registry.

An attention is one class in one file. It defines everything that backbones, checkpoints, FLOP
counts, entropies, benchmarks and tests need. :func:`register_attention` shows one outside this
package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from mmca.errors import InputError

SOFTMAX = 'softmax'  # every family's own attention goes by this name, too


@dataclass(frozen=True)
class StageSpec:
    """The place of an attention in a backbone.

    Attributes:
        embed_dims: C.
        num_heads: heads of the family's softmax attention at this place.
        stage: index of the stage, from 0.
        block: index of the block within its stage, from 0.
        grid_size: side of the square token grid at the pre-training image size.
        sr_ratio: the family's spatial reduction of keys and values, 1 for none.
        window_size: side of the family's attention windows in tokens, or width of its stripes;
            None for the whole grid.
        drop_rate: dropout rate of projections.
        split_qkv: whether the family projects by `q` and `kv` (PVT) rather than by `qkv`.
        projects: whether attentions contain their projections; in CSwin, the block contains them
            for attentions that allow it.
        lepe: whether the family adds a 3 x 3 depth-wise convolution of v, `get_v` (CSwin).

    Example:
        >>> StageSpec(embed_dims=64, num_heads=2, stage=1).grid_size
        14
    """

    embed_dims: int
    num_heads: int = 1
    stage: int = 0
    block: int = 0
    grid_size: int = 14
    sr_ratio: int = 1
    window_size: int | None = 7
    drop_rate: float = 0.0
    split_qkv: bool = False
    projects: bool = True
    lepe: bool = False


class Attention(nn.Module):
    """Base class of all attentions on a token grid.

    Subclasses must define :meth:`forward`; all other members have defaults.

    Attributes:
        uses_cpe: whether its block has the 3 x 3 positional convolution `cpe`.
        no_weight_decay: names of parameters that recipes without weight decay on position tables
            leave undecayed.
        resized_parameters: parameters learned on a grid or window of a certain size -> 'bilinear'
            or 'bicubic', how a checkpoint of another size is resized.
        signature: name of a parameter that identifies this attention in a checkpoint; '' for none.
        replaces_softmax: whether :meth:`from_softmax` makes it act like the softmax attention
            without training, which makes it a candidate of `mmca analyze` if it has a letter.
        softmax_options: options for the start from softmax weights, with which it is nearest to
            the softmax attention; distillation and generated configs use them.
        method: prefix for the names of families that use this attention, such as 'CA-'.
        special_tokens: whether tokens outside the H x W grid, such as a class token, can precede
            the grid tokens.
        has_kernel: whether all queries share one kernel of displacements, see
            :meth:`attention_kernel`.
        projects: whether it computes q, k and v from the tokens and projects its result. If not,
            it receives q, k and v, (B, N, 3C), from a :class:`mmca.layers.ProjectingBlock`.
        spec: its place, set by :func:`build_attention`; otherwise None.

    Example:
        >>> class Identity(Attention):
        ...     def forward(self, x, hw_shape):
        ...         return x
        >>> Identity().extra_macs((3, 5))
        0
    """

    uses_cpe: ClassVar[bool] = False
    no_weight_decay: ClassVar[Collection[str]] = ()
    resized_parameters: ClassVar[Mapping[str, str]] = {}
    signature: ClassVar[str] = ''
    replaces_softmax: ClassVar[bool] = False
    softmax_options: ClassVar[Mapping[str, Any]] = {}
    method: ClassVar[str] = ''
    special_tokens: ClassVar[bool] = False
    has_kernel: ClassVar[bool] = False
    projects: bool = True
    spec: StageSpec | None = None

    @classmethod
    def from_spec(cls, spec: StageSpec, **options: Any) -> Attention:
        """Build the attention for a place in a backbone, with the options of `attn_cfg`.

        Arguments of `__init__` named like attributes of the place, such as `num_heads`, default to
        their values, and `proj_drop` to `drop_rate`.
        """
        place = {**vars(spec), 'proj_drop': spec.drop_rate}
        known = inspect.signature(cls).parameters.keys() - {'embed_dims'}
        given = {name: value for name, value in place.items() if name in known}
        return cls(spec.embed_dims, **{**given, **options})

    def forward(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Attend over the grid, (B, N, C) -> (B, N, C), N = H * W."""
        raise NotImplementedError

    @classmethod
    def from_softmax(cls, tensors: Mapping[str, Tensor], spec: StageSpec) -> Mapping[str, Tensor]:
        """Initial weights from the softmax attention in the same place.

        Args:
            tensors: tensors of the softmax attention, without prefix. They include its projections
                under both naming conventions: `qkv.weight` (3C, C) with `qkv.bias` (3C,),
                and `q.*` (C, ...) with `kv.*` (2C, ...).
            spec: the place.

        Returns:
            Name -> tensor. Tensors that the module lacks or that have another shape are ignored. By
            default, all tensors with the same name and shape are used.
        """
        return tensors

    def start_advice(self) -> str:
        """One line of advice for a start from softmax weights; '' for none."""
        return ''

    def calibrate(self, x: Tensor, hw_shape: tuple[int, int], target: Tensor) -> None:
        """Set parameters by a small search, so that the output for x approximates the target.

        Called without gradients. By default, it does nothing.

        Args:
            x: (B, N, C), inputs from a few images; special tokens can precede the grid tokens.
            hw_shape: (H, W).
            target: (B, N, C), outputs of the softmax attention for these images.
        """

    def extra_macs(self, hw_shape: tuple[int, int]) -> int:
        """Multiply-adds for one image that torch's counter cannot see, such as transforms."""
        return 0

    def exported_macs(self, hw_shape: tuple[int, int]) -> int:
        """What :meth:`extra_macs` becomes in an ONNX file, where products replace transforms."""
        return self.extra_macs(hw_shape)

    def attention_weights(self, x: Tensor, hw_shape: tuple[int, int], token: int) -> Tensor:
        """How much one query token of the grid, from 0 to N - 1, attends to every token of it.

        Returns:
            (B, heads, H, W), not negative; the sum is one, or less where padding or special tokens
            take some of the weight.
        """
        raise NotImplementedError(f'{type(self).__name__} does not define attention_weights')

    def attention_kernel(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """The kernel of an attention with `has_kernel`.

        Returns:
            (B, heads, H, W), each of sum one: at (i, j) the weight of the token i rows below and
            j columns right of any query, on the torus.
        """
        raise NotImplementedError(f'{type(self).__name__} has no kernel')

    def attention_matrix(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, heads, N, N): :meth:`attention_weights` of all tokens, query by key."""
        rows = [self.attention_weights(x, hw_shape, n).flatten(2) for n in range(x.shape[1])]
        return torch.stack(rows, 2)


_REGISTRY: dict[str, type[Attention]] = {}
_LETTERS: dict[str, str] = {'S': SOFTMAX}
Class = TypeVar('Class', bound=type[Attention])


def register_attention(name: str, letter: str | None = None) -> Callable[[Class], Class]:
    """A class decorator that registers an attention by name.

    Args:
        name: name in configs, such as 'circulant'.
        letter: an upper-case letter for the short form of configs, such as 'C' in 'CCSS'.

    Returns:
        The decorator.

    Raises:
        InputError: the name or the letter is taken or malformed, or the class is not an
            :class:`Attention`.

    Example (a file listed in `custom_imports` of a config):
        >>> from mmca.layers import Attention, StageSpec, build_attention, register_attention
        >>> @register_attention('mean', letter='M')
        ... class MeanAttention(Attention):
        ...     def __init__(self, embed_dims, temperature=1.0):
        ...         super().__init__()
        ...         self.proj = nn.Linear(embed_dims, embed_dims)
        ...         self.temperature = temperature
        ...     def forward(self, x, hw_shape):
        ...         return self.proj(x.mean(1, keepdim=True).expand_as(x)) / self.temperature
        >>> attn = build_attention('mean', StageSpec(8), {'temperature': 2.0})  # from `attn_cfg`
        >>> attn(torch.zeros(2, 15, 8), (3, 5)).shape
        torch.Size([2, 15, 8])
        >>> unregister_attention('mean')
    """
    if not name.isidentifier() or len(name) < 2:
        raise InputError(
            f'the name of an attention must be a Python identifier of two characters or more, '
            f'got {name!r}'
        )
    if letter is not None and not (len(letter) == 1 and letter.isascii() and letter.isupper()):
        raise InputError(f'the letter of an attention must be one of A to Z, got {letter!r}')

    def register(cls: Class) -> Class:
        if not (isinstance(cls, type) and issubclass(cls, Attention)):
            raise InputError(f'{cls!r} is not a subclass of mmca.layers.Attention')
        if name == SOFTMAX or name in _REGISTRY:
            cls = _REGISTRY.get(name)
            owner = f'{cls.__module__}.{cls.__qualname__}' if cls else 'the families themselves'
            raise InputError(f'the attention name {name!r} is taken by {owner}: choose another')
        if letter in _LETTERS:
            raise InputError(
                f'the attention letter {letter!r} is taken by {_LETTERS[letter]!r}: choose another'
            )
        _REGISTRY[name] = cls
        if letter is not None:
            _LETTERS[letter] = name
        return cls

    return register


def unregister_attention(name: str) -> None:
    """Remove a registered attention, for example to redefine it in a notebook."""
    del _REGISTRY[name]
    for letter in [letter for letter, owner in _LETTERS.items() if owner == name]:
        del _LETTERS[letter]


def registered_attentions() -> dict[str, type[Attention]]:
    """All attentions by name, in the order of registration.

    Example:
        >>> from mmca.layers import registered_attentions
        >>> list(registered_attentions())[:3]
        ['circulant', 'linear', 'global']
    """
    return dict(_REGISTRY)


def attention_letters() -> dict[str, str]:
    """Letter -> name, including 'S' for the family's own softmax attention."""
    return dict(_LETTERS)


def get_attention(name: str) -> type[Attention]:
    """The class of an attention by its registered name; the family resolves 'softmax'.

    Raises:
        InputError: unknown name.
    """
    if name not in _REGISTRY:
        raise InputError(f'unknown attention {name!r}; choose from {_known()}')
    return _REGISTRY[name]


def resolve_attn(attn: str | Sequence[str], num_stages: int) -> tuple[str, ...]:
    """Name the attention of every stage.

    Args:
        attn: one letter ('CCSS') or one name (['circulant', ..., 'softmax']) per stage, or a single
            one ('C', 'circulant') for all.
        num_stages: number of stages.

    Returns:
        One name per stage; 'softmax' stands for the family's own attention.

    Raises:
        InputError: unknown name or wrong number of stages.

    Example:
        >>> resolve_attn('CCSS', 4)
        ('circulant', 'circulant', 'softmax', 'softmax')
    """
    names = {SOFTMAX, *_REGISTRY}
    items = (attn,) if isinstance(attn, str) and attn in names else tuple(attn)
    resolved = tuple(_LETTERS.get(item, item) for item in items)
    for name in resolved:
        if name not in names:
            raise InputError(f'unknown attention {name!r} in attn={attn!r}; choose from {_known()}')
    if len(resolved) not in (1, num_stages):
        raise InputError(
            f'attn={attn!r} lists {len(resolved)} stages, but the backbone has {num_stages}: '
            'use one letter or name per stage, such as "CCSS", or a single one for all'
        )
    return resolved * num_stages if len(resolved) == 1 else resolved


def build_attention(
    name: str, spec: StageSpec, options: Mapping[str, Any] | None = None
) -> Attention:
    """Build an attention for a place in a backbone.

    Args:
        name: as registered.
        spec: the place.
        options: options of the attention, as in `attn_cfg`.

    Returns:
        The module, with `spec` set.

    Raises:
        InputError: unknown name or option, or a value that the attention rejects.

    Example:
        >>> attn = build_attention('circulant', StageSpec(embed_dims=8), {'head_dim': 4})
        >>> attn.head_dim
        4
    """
    check_options(name, options or {})
    attn = get_attention(name).from_spec(spec, **(options or {}))
    attn.spec = spec
    return attn


def check_options(name: str, options: Collection[str]) -> None:
    """Raise InputError for an unknown attention, or for options that are no arguments of it."""
    parameters = inspect.signature(get_attention(name)).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return  # the class takes any keyword, and checks them itself
    known = sorted(parameters.keys() - {'embed_dims'})
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, 1)
            hint = f', did you mean {near[0]!r}?' if near else ''
            raise InputError(
                f'unknown option {option!r} of the attention {name!r}{hint} '
                f'(known options: {", ".join(known) or "none"})'
            )


def _known() -> str:
    letters = {name: f' ({letter})' for letter, name in _LETTERS.items()}
    return ', '.join(f'{name!r}{letters.get(name, "")}' for name in (*_REGISTRY, SOFTMAX))


def check_heads(embed_dims: int, num_heads: int) -> None:
    """Raise InputError for a number of heads that does not divide the channels."""
    if num_heads < 1 or embed_dims % num_heads:
        raise InputError(
            f'num_heads must divide embed_dims, got embed_dims={embed_dims}, num_heads={num_heads}'
        )
