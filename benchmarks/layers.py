"""Suites of ops and of single layers."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import baselines
from benchmarks.cases import Case, Workload, num_heads, random_workload, register_suite
from benchmarks.flags import at_least, parse_size
from mmca import ops
from mmca.layers import CirculantAttention
from mmca.layers.attention import StageSpec, build_attention, registered_attentions

SIZES = ((1, 200, 336, 64), (1, 100, 168, 128), (8, 56, 56, 64))
HEAD_WIDTHS = {'window': 32, 'stripes': 32}  # as in Swin and CSwin; PVT and DeiT have 64

SIZE = dict(
    action='append',
    type=parse_size,
    metavar='BxHxWxC',
    help='images, grid, channels; repeatable; default 1x200x336x64 1x100x168x128 8x56x56x64',
)
Size = tuple[int, int, int, int]


@register_suite('op', rounds=20, flags={'--size': SIZE})
def op_cases(args: Namespace) -> list[Case]:
    """Ops of mmca.ops compared with efficient baselines."""
    cases = []
    for size in args.size or SIZES:
        batch, height, width, channels = size
        tokens, grid = (batch, height * width, channels), (height, width)
        for name, shapes in (
            ('circulant_attention', [tokens] * 3),
            ('circulant_self_attention', [tokens, (3 * channels, channels)]),
        ):
            builders = {
                kind: partial(random_workload, getattr(module, name), shapes, args, grid)
                for kind, module in (('ours', ops), ('baseline', baselines))
            }
            label = f'{name} {"x".join(map(str, size))}'
            cases.append(Case(label, builders, ('ours',), (('ours', 'baseline'),)))
        head_dim = min(64, channels)
        functions = {'with keys': _with_keys, 'without': ops.circulant_attention}
        builders = {
            kind: partial(random_workload, function, [tokens] * 3, args, grid, head_dim)
            for kind, function in functions.items()
        }
        label = f'key_logits {"x".join(map(str, size))}'
        cases.append(Case(label, builders, ('with keys',), (('with keys', 'without'),)))
    return cases


def _with_keys(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], head_dim: int) -> Tensor:
    """Circulant attention with zero key logits, which have no effect but have a gradient."""
    keys = q[..., ::head_dim].mT * 0
    return ops.circulant_attention(q, k, v, grid, head_dim, key_logits=keys)


@register_suite(
    'layer',
    rounds=20,
    flags={
        '--size': SIZE,
        '--softmax-tokens': dict(
            type=at_least(1),
            default=12544,
            help='largest grid, in tokens, for attention over all tokens; default 12544',
        ),
    },
)
def layer_cases(args: Namespace) -> list[Case]:
    """The circulant layer compared with its baseline, other attentions and mmdet's modules."""
    cases = []
    for size in args.size or SIZES:
        _, height, width, channels = size
        sr_ratio = min(8 if channels <= 64 else 4, height, width)
        theirs, skipped = baselines.mmdet_attentions(channels, sr_ratio), {}
        if find_spec('mmdet') is None:
            skipped = dict.fromkeys(theirs, 'mmdet is not installed')
        elif args.dtype == torch.bfloat16:
            skipped = {'mmdet_shifted': baselines.MMDET_MASK}
        if height * width > args.softmax_tokens:
            reason = f'{height * width} tokens exceed --softmax-tokens {args.softmax_tokens}'
            skipped['global'] = reason
        builders = {
            name: _layer_builder(module, size, args)
            for name, module in (_attentions(channels, sr_ratio) | theirs).items()
            if name not in skipped
        }
        label, same = 'x'.join(map(str, size)), (('circulant', 'baseline'),)
        cases.append(Case(label, builders, ('circulant',), same, skipped))
    return cases


@register_suite('passes', rounds=20, flags={'--size': SIZE})
def pass_cases(args: Namespace) -> list[Case]:
    """The circulant layer, its transforms and a product, compared with a copy of the input."""
    cases = []
    for size in args.size or SIZES:
        batch, height, width, channels = size
        maps, tokens = (batch, channels, height, width), (batch, height * width, channels)
        builders = {
            'circulant': _layer_builder(partial(CirculantAttention, channels), size, args),
            'transform and back': partial(random_workload, _there_and_back, [maps], args),
            'product': partial(random_workload, F.linear, [tokens, (channels, channels)], args),
            'copy': partial(random_workload, torch.clone, [maps], args),
        }
        cases.append(Case('x'.join(map(str, size)), builders, tuple(builders)[:-1]))
    return cases


def _there_and_back(maps: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(maps), s=maps.shape[2:])


class OneByOne(nn.Module):
    """The circulant layer on the tokens (1, N_i, C) of several images of different sizes."""

    def __init__(self, channels: int, grids: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.layer, self.grids = CirculantAttention(channels), grids

    def forward(self, *images: Tensor) -> list[Tensor]:
        return [self.layer(x, grid) for x, grid in zip(images, self.grids, strict=True)]


@register_suite(
    'sizes',
    rounds=5,
    flags={
        '--count': dict(type=at_least(1), default=40, help='number of images; default 40'),
        '--side': dict(type=at_least(8), default=200, help='mean side of the grids; default 200'),
        '--channels': dict(type=at_least(1), default=64, help='default 64'),
    },
)
def size_cases(args: Namespace) -> list[Case]:
    """Images of different sizes, as in COCO, compared with images of one size."""
    generator = torch.Generator().manual_seed(args.seed)
    factors = 0.75 + 0.5 * torch.rand(args.count, 2, generator=generator)
    various = [tuple(sides) for sides in (args.side * factors).long().tolist()]

    def build(grids: Sequence[tuple[int, int]]) -> Workload:
        shapes = [(1, height * width, args.channels) for height, width in grids]
        return random_workload(OneByOne(args.channels, grids), shapes, args)

    one_size = [(args.side, args.side)] * args.count
    builders = {'various': partial(build, various), 'one size': partial(build, one_size)}
    return [Case(f'{args.count} images', builders, ('various',))]


def _attentions(channels: int, sr_ratio: int) -> dict[str, Callable[[], nn.Module]]:
    def build(name: str) -> nn.Module:
        heads = num_heads(channels, HEAD_WIDTHS.get(name, 64))
        return build_attention(name, StageSpec(channels, heads, sr_ratio=sr_ratio))

    names = dict.fromkeys(['circulant', 'baseline', *registered_attentions()])
    modules = {name: partial(build, name) for name in names}
    return modules | {'baseline': partial(baselines.CirculantBaseline, channels)}


def _layer_builder(
    module: Callable[[], nn.Module], size: Size, args: Namespace
) -> Callable[[], Workload]:
    batch, height, width, channels = size
    shapes = [(batch, height * width, channels)]
    return lambda: random_workload(module(), shapes, args, (height, width))
