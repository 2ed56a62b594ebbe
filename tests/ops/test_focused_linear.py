"""Focused linear attention against its dense form, outputs and gradients."""

import pytest
import torch
import torch.nn.functional as F

from mmca.errors import InputError
from mmca.ops import focused_linear_attention, naive
from tests.op_cases import assert_close, outputs_and_gradients
from tests.tolerances import ATTENTION_TOLERANCE

# (N, M, C, heads, focusing factor)
FEW = [(1, 1, 4, 1, 3.0), (1, 1, 8, 8, 3.0), (1, 7, 8, 2, 3.0), (2, 2, 6, 3, 3.0)]
FEW += [(3, 3, 16, 4, 3.0), (7, 7, 8, 1, 3.0), (16, 16, 32, 1, 3.0), (31, 31, 6, 2, 3.0)]
GRIDS = [(49, 49, 64, 2, 3.0), (49, 49, 96, 3, 3.0), (64, 64, 16, 16, 3.0), (101, 101, 32, 8, 3.0)]
GRIDS += [(143, 143, 16, 2, 2.5), (196, 196, 48, 6, 3.0), (323, 323, 8, 2, 3.0)]
GRIDS += [(784, 784, 16, 4, 3.0)]
REDUCED = [(53, 12, 10, 5, 3.0), (64, 1, 16, 2, 3.0), (128, 64, 64, 1, 3.0)]
FACTORS = [(77, 77, 20, 4, 2.0), (91, 91, 24, 3, 4.0), (100, 100, 12, 2, 1.0)]
FACTORS += [(225, 225, 24, 1, 8.0)]
SHAPES = FEW + GRIDS + REDUCED + FACTORS
TOLERANCE = {**ATTENTION_TOLERANCE, torch.float64: 1e-11}


def inputs(shape, dtype=torch.float64, seed=0):
    """q, k, v and a positive scale."""
    queries, keys, channels, *_ = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(2, queries, channels), (2, keys, channels), (2, keys, channels), (channels,)]
    q, k, v, s = (torch.randn(n, generator=generator, dtype=torch.float64) for n in sizes)
    return [x.to(dtype) for x in (q, k, v, F.softplus(s))]


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_matches_the_dense_form_in_every_dtype(shape, dtype):
    if shape[1] == 1 and dtype != torch.float64:
        pytest.skip('with a single key, gradients of q and k are differences of equal numbers')
    tensors, share = inputs(shape, dtype), 1e-4 if dtype == torch.float64 else 0.1
    found = outputs_and_gradients(focused_linear_attention, tensors, *shape[3:])
    exact = outputs_and_gradients(
        naive.focused_linear_attention, [x.double() for x in tensors], *shape[3:]
    )
    assert all(value.dtype == dtype for value in found)
    assert_close(found, exact, TOLERANCE[dtype], share)


def test_weights_are_an_average():
    """The weights of a query are positive and sum to one, up to the 1e-6 of the denominator."""
    q, k, _, scale = inputs((60, 60, 16, 2, 3.0))
    q, k = q + 2, k + 2  # so that no weights are as small as that
    constant = torch.full_like(q, 3.0)
    out = focused_linear_attention(q, k, constant, scale, 2)
    torch.testing.assert_close(out, constant, rtol=2e-5, atol=0)


def test_dead_and_huge_features_stay_finite():
    """All negative features: relu leaves 1e-6, whose cubes' squares float32 cannot hold."""
    for factor in (-50.0, 1e4):
        x = torch.full((1, 8, 16), factor).requires_grad_()
        scale = torch.full((16,), 30.0)
        out = focused_linear_attention(x, x, torch.ones_like(x), scale, 2)
        out.sum().backward()
        assert out.isfinite().all()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_right_on_a_detector_grid(dtype):
    """200 x 336 tokens with features that are all alike and large: sums of 67,200 terms."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (4 + torch.randn(1, 200 * 336, 64, generator=generator) for _ in range(3))
    q, k, v, scale = (x.to(dtype) for x in (q * 8, k * 8, v * 8, torch.full((64,), 0.05)))
    out = focused_linear_attention(q, k, v, scale, 2)
    assert out.dtype == dtype
    assert out.isfinite().all()
    exact = focused_linear_attention(*(x.double() for x in (q, k, v, scale)), 2)
    torch.testing.assert_close(out.double(), exact, rtol=TOLERANCE[dtype], atol=0.05)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'q': torch.zeros(1, 4, 6)}, r'got \(1, 4, 6\), \(1, 4, 8\)'),
        ({'v': torch.zeros(1, 5, 8)}, r'\(1, 5, 8\)'),
        ({'scale': torch.ones(4)}, 'one value per channel'),
        ({'num_heads': 3}, 'num_heads=3, C=8'),
        ({'num_heads': 0}, 'num_heads=0'),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {name: torch.zeros(1, 4, 8) for name in 'qkv'}
    arguments |= {'scale': torch.ones(8), 'num_heads': 2}
    for function in (focused_linear_attention, naive.focused_linear_attention):
        with pytest.raises(InputError, match=message):
            function(**{**arguments, **change})
