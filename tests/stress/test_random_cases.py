"""Random shapes, memory layouts, dtypes, scales and head sizes of every op, against its naive form.

Outputs and gradients; 10,000 cases in the long form.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmca import ops
from mmca.ops import naive
from mmca.ops.precision import wide_dtype
from tests.tolerances import ATTENTION_TOLERANCE

LONG, SHORT = 2500, 25  # cases of each op
MAX_TOKENS = 300
LARGEST = {'circulant_self_attention': 2.0}  # magnitude of the tokens
LAYOUTS = {
    'contiguous': lambda x: x.contiguous(),
    'transposed': lambda x: x.mT.contiguous().mT if x.dim() > 1 else x,
    'expanded': lambda x: x[:1].expand_as(x),
    'expanded inside': lambda x: x[..., :1].expand_as(x),
    'sliced': lambda x: F.pad(x, (1, 2) * x.dim())[(slice(1, -2),) * x.dim()],
    'strided': lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],
    'channels_last': lambda x: (
        x[..., None].contiguous(memory_format=torch.channels_last)[..., 0] if x.dim() == 3 else x
    ),
}


class Case(NamedTuple):
    """An op with everything but the numbers: sizes of its tensors, tokens first, and options."""

    sizes: list[tuple[int, ...]]
    options: dict[str, Any]


@st.composite
def grids(draw: Callable, tokens: int) -> tuple[int, int]:
    height = draw(st.integers(1, 40))
    return height, draw(st.integers(1, min(40, tokens // height)))


@st.composite
def circulant(draw: Callable, tensors: int) -> Case:
    batch, heads, head_dim = (draw(st.integers(1, most)) for most in (3, 5, 5))
    hw_shape = draw(grids(40 if tensors == 2 else MAX_TOKENS))
    tokens, channels = hw_shape[0] * hw_shape[1], heads * head_dim
    number = st.floats(-2, 2).map(lambda x: round(x, 3) / (tokens * head_dim) ** 0.5)
    scale = draw(st.sampled_from(['sqrt', 'paper']) | number)
    shape = (batch, tokens, channels)
    sizes = [shape, (3 * channels, channels)] if tensors == 1 else [shape] * tensors
    return Case(sizes, dict(hw_shape=hw_shape, head_dim=head_dim, scale=scale))


@st.composite
def linear(draw: Callable) -> Case:
    batch, heads, head_dim = (draw(st.integers(1, most)) for most in (3, 5, 8))
    channels = heads * head_dim
    queries, keys = ((batch, draw(st.integers(1, 200)), channels) for _ in range(2))
    factor = draw(st.sampled_from([1.0, 2.0, 2.5, 3.0, 4.0]))
    scale = draw(st.sampled_from([(channels,), (1, 1, channels)]))
    options = dict(num_heads=heads, focusing_factor=factor)
    return Case([queries, keys, keys, scale], options)


CASES = {
    'circulant_attention': circulant(3),
    'circulant_self_attention': circulant(1),
    'circulant_kernel': circulant(2),
    'focused_linear_attention': linear(),
}


def layouts_of(name: str, size: tuple[int, ...]) -> list[str]:
    """Parameters are not expanded; nor are channels where alike ones make all gradients cancel."""
    fixed = {'expanded', 'expanded inside'} if len(size) < 3 else set()
    if name in ('focused_linear_attention', 'circulant_kernel'):
        fixed.add('expanded inside')
    return [kind for kind in LAYOUTS if kind not in fixed]


def numbers(name: str, case: Case, magnitude: float) -> list[Tensor]:
    """float64 tensors whose products neither vanish nor overflow."""
    tensors = [torch.randn(size, dtype=torch.float64) for size in case.sizes]
    tensors = [x / x.shape[1] ** 0.5 if x.dim() == 2 else x for x in tensors]
    # Logits grow with the square of the tokens, and their errors with them.
    tensors[0] *= min(magnitude, LARGEST.get(name, magnitude))
    if name in ('circulant_attention', 'circulant_kernel'):
        tensors[1] /= magnitude
    if name == 'focused_linear_attention':
        tensors[3] = tensors[3].exp()
    return tensors


def outputs_and_gradients(
    function: Callable,
    tensors: list[Tensor],
    layouts: list[str],
    seed: int,
    options: dict,
    dtype: torch.dtype,
) -> list[Tensor]:
    """`dtype` is that of the op that is compared: all forms get the same rounded gradient."""
    pairs = zip(layouts, tensors, strict=True)
    leaves = [LAYOUTS[kind](x).detach().requires_grad_() for kind, x in pairs]
    out = function(*leaves, **options)
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    grad = LAYOUTS[layouts[0]](grad.to(dtype)).to(out.dtype)
    return [out, *torch.autograd.grad(out, leaves, grad)]


def compare(name: str, case: Case, draw: Callable) -> None:
    """One case: the op in one dtype, against the naive form in float64 of the same numbers."""
    dtype = draw(st.sampled_from(list(ATTENTION_TOLERANCE)), 'dtype')
    layouts = [draw(st.sampled_from(layouts_of(name, size)), 'layout') for size in case.sizes]
    backend = draw(st.sampled_from(['fused', 'eager']), 'backend')
    magnitude = draw(st.sampled_from([0.01, 0.3, 1.0, 8.0]), 'magnitude')
    seed = draw(st.integers(0, 1 << 31), 'seed')
    torch.manual_seed(seed)
    tensors = [x.to(dtype) for x in numbers(name, case, magnitude)]
    with ops.use_backend(backend):
        found = outputs_and_gradients(
            getattr(ops, name), tensors, layouts, seed, case.options, dtype
        )

    def exact_in(wide: torch.dtype) -> list[Tensor]:
        values = [x.to(wide) for x in tensors]
        return outputs_and_gradients(
            getattr(naive, name), values, layouts, seed, case.options, dtype
        )

    computed = wide_dtype(dtype)
    exact, rounded = exact_in(torch.float64), exact_in(computed)
    tolerance, info = ATTENTION_TOLERANCE[dtype], torch.finfo(dtype)
    smallest = info.smallest_normal * info.eps
    rounding = min(256 * torch.finfo(computed).eps, tolerance)
    sizes = [1.0, *(x.abs().max().double() for x in tensors)]
    if name == 'focused_linear_attention':  # divides by the scale and the lengths of tokens
        for index in (0, 1):
            lengths = tensors[index].double().relu().norm(dim=-1)
            sizes[index + 1] = lengths[lengths > 0].min() if lengths.any() else 1.0
        sizes[4] = tensors[3].double().min()
    # A gradient times its tensor has the loss's unit: the largest of them says how large rounding
    # errors may be in a gradient that itself cancels.
    unit = max(e.abs().max() * s for e, s in zip(exact[1:], sizes[1:], strict=True))
    for index, (value, expected, same) in enumerate(zip(found, exact, rounded, strict=True)):
        wide = name == 'circulant_kernel' and index == 0
        assert value.dtype == (computed if wide else dtype), f'{index}: {value.dtype}'
        assert value.shape == expected.shape
        naive_error = (same.double() - expected).abs().max().nan_to_num(0, 0, 0)
        slack = rounding * unit / sizes[index] if index else 0.0
        bound = tolerance * expected.abs().max() + slack + 4 * naive_error + smallest
        # What leaves the range of float16 is infinite.
        error = (value.double().clamp(-info.max, info.max) - expected).abs()
        error = error.where(expected.abs() < info.max, 0.0).max()
        what = 'output' if index == 0 else f'gradient {index - 1}'
        assert error <= bound, f'{what}: error {error:.3g}, at most {bound:.3g}'


@pytest.mark.parametrize('number', [SHORT, pytest.param(LONG, marks=pytest.mark.stress)])
@pytest.mark.parametrize('name', CASES)
def test_an_op_is_its_naive_form(name, number):
    """Hypothesis prints the smallest case that fails."""

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES[name], st.data())
    def check(case: Case, data: st.DataObject) -> None:
        compare(name, case, data.draw)

    check()
