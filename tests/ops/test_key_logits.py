"""Circulant attention with key logits, against softmax attention with its N x N weights."""

import math

import pytest
import torch

from mmca import ops
from mmca.errors import InputError
from mmca.ops import circulant_attention, naive
from tests.op_cases import assert_close, outputs_and_gradients
from tests.ops.test_circulant import SHAPES, inputs
from tests.tolerances import ATTENTION_TOLERANCE as TOLERANCE

CASES = [shape for shape in SHAPES if math.prod(shape[:2]) <= 330]
every_form = pytest.mark.usefixtures('every_form')


def key_logits(shape, span=30.0, batch=2, dtype=torch.float64):
    """(B, heads, N), spread evenly over a range."""
    size = batch, shape[2] // shape[3], math.prod(shape[:2])
    return (torch.rand(size, generator=torch.Generator().manual_seed(5)) * span - 3).to(dtype)


def attend(module, shape, scale='paper', **options):
    """A function of q, k, v and key logits that returns the output and the logsumexp, side by side.

    Gradients of the result are those of both.
    """

    def function(q, k, v, b):
        run = module.circulant_attention
        out, lse = run(q, k, v, shape[:2], shape[3], scale, key_logits=b, return_lse=True)
        return torch.cat([out, lse.mT.to(out.dtype)], 2)

    return function


@every_form
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('shape', CASES, ids=str)
def test_matches_the_dense_form_in_every_dtype(shape, dtype):
    wide = dtype == torch.float64
    given = [*inputs(shape, dtype), key_logits(shape, dtype=dtype)]
    for scale in ('sqrt', 'paper') if wide else ('paper',):
        found = outputs_and_gradients(attend(ops, shape, scale), given)
        exact = outputs_and_gradients(attend(naive, shape, scale), [x.double() for x in given])
        assert_close(found, exact, *((1e-11,) if wide else (TOLERANCE[dtype], 0.1)))


@pytest.mark.parametrize('shape', [(1, 1, 2, 1), (1, 5, 2, 1), (2, 3, 4, 2), (3, 3, 2, 2)], ids=str)
def test_gradcheck(shape):
    given = [*inputs(shape, batch=1), key_logits(shape, span=3.0, batch=1)]
    assert torch.autograd.gradcheck(attend(ops, shape), [x.requires_grad_() for x in given])


@every_form
def test_equal_key_logits_change_nothing():
    shape = (5, 7, 32, 16)
    q, k, v = inputs(shape)
    without = circulant_attention(q, k, v, shape[:2], shape[3])
    b = torch.full_like(key_logits(shape), -2.5)
    torch.testing.assert_close(circulant_attention(q, k, v, shape[:2], 16, key_logits=b), without)


@every_form
def test_the_logsumexp_without_key_logits():
    shape = (5, 7, 32, 16)
    given = inputs(shape)

    def function(module):
        def run(q, k, v):
            out, lse = module.circulant_attention(q, k, v, (5, 7), 16, return_lse=True)
            return torch.cat([out, lse.mT], 2)

        return run

    found, dense = (outputs_and_gradients(function(module), given) for module in (ops, naive))
    assert_close(found, dense, TOLERANCE[torch.float64])


@every_form
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_masked_keys_have_no_influence(dtype):
    shape = (6, 4, 8, 4)
    q, k, v = inputs(shape, dtype)
    b = key_logits(shape, dtype=dtype)
    b[:, :, 8:] = -math.inf
    other = v.clone()
    other[:, 8:] = 1e3
    run = attend(ops, shape)
    torch.testing.assert_close(run(q, k, other, b), run(q, k, v, b), rtol=0, atol=0)
    found = outputs_and_gradients(run, [q, k, v, b])
    exact = outputs_and_gradients(attend(naive, shape), [x.double() for x in (q, k, v, b)])
    assert_close(found, exact, TOLERANCE[dtype], share=0.1)
    assert (found[3][:, 8:] == 0).all()
    assert (found[4][:, :, 8:] == 0).all()


@every_form
def test_a_head_with_all_keys_masked_gives_zeros():
    shape = (3, 5, 8, 4)
    b = key_logits(shape)
    b[1, 0] = -math.inf
    run = lambda q, k, v, b: circulant_attention(q, k, v, (3, 5), 4, key_logits=b)  # noqa: E731
    out, *grads = outputs_and_gradients(run, [*inputs(shape), b])
    assert (out[1, :, :4] == 0).all()
    assert (attend(ops, shape)(*inputs(shape), b)[1, :, 8] == -math.inf).all()
    assert all(x.isfinite().all() for x in (out, *grads))


@every_form
@pytest.mark.parametrize('span', [5, 15, 30, 100])
def test_accuracy_where_the_divisor_is_small(span):
    """Kernel logits of a wide range: the documented error, and finite results beyond it."""
    shape = (9, 11, 8, 8)
    q, k, v = inputs(shape, torch.float32)
    a = naive.circulant_kernel(q[:1].double(), k[:1].double(), (9, 11), 8, 1.0).log()
    scale = span / (a.amax() - a.amin()).item()
    given = [q, k, v, key_logits(shape, span=30.0, dtype=torch.float32)]
    found = outputs_and_gradients(attend(ops, shape, scale), given)
    exact = attend(naive, shape, scale)(*(x.double() for x in given))
    error = (found[0] - exact)[..., :8].abs().max() / v.abs().max()
    assert error <= min(1e-7 * math.exp(span), 2.0)
    assert all(x.isfinite().all() for x in found)


def test_key_logits_of_another_shape_are_named():
    x = torch.zeros(2, 12, 8)
    with pytest.raises(InputError, match=r'\(2, 2, 12\), got \(2, 12, 2\)'):
        circulant_attention(x, x, x, (3, 4), 4, key_logits=torch.zeros(2, 12, 2))
