"""Attention with exact logits in windows, against its dense form and softmax attention."""

import math

import pytest
import torch

from mmca import ops
from mmca.errors import InputError
from mmca.ops import chunks, naive, windowed_circulant_attention
from mmca.ops.layout import merge_heads, split_heads
from tests.op_cases import assert_close, outputs_and_gradients
from tests.ops.test_circulant import SHAPES, inputs
from tests.tolerances import ATTENTION_TOLERANCE as TOLERANCE

CASES = [shape for shape in SHAPES if math.prod(shape[:2]) <= 330]
every_form = pytest.mark.usefixtures('every_form')


def attend(module, shape, window_size):
    """A function of q, k and v that returns the output and the logsumexp, side by side."""

    def function(q, k, v):
        out, lse = module.windowed_circulant_attention(
            q, k, v, shape[:2], shape[3], window_size, return_lse=True
        )
        return torch.cat([out, lse.mT.to(out.dtype)], 2)

    return function


@every_form
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('shape', CASES, ids=str)
def test_matches_the_dense_form_in_every_dtype(shape, dtype):
    given = inputs(shape, dtype)
    for window_size in (1, 3, 4) if dtype == torch.float64 else (3,):
        found = outputs_and_gradients(attend(ops, shape, window_size), given)
        exact = outputs_and_gradients(
            attend(naive, shape, window_size), [x.double() for x in given]
        )
        assert_close(found, exact, TOLERANCE[dtype], 0.0 if dtype == torch.float64 else 0.1)


@pytest.mark.parametrize('shape', [(1, 5, 2, 1), (2, 3, 4, 2), (3, 3, 2, 2)], ids=str)
def test_gradcheck(shape):
    given = [x.requires_grad_() for x in inputs(shape, batch=1)]
    assert torch.autograd.gradcheck(attend(ops, shape, 2), given)


@every_form
@pytest.mark.parametrize('window_size', [7, 12])
def test_one_window_is_softmax_attention(window_size):
    qkv = inputs((5, 7, 32, 16))
    heads = (split_heads(x, 2) for x in qkv)
    exact = merge_heads(torch.nn.functional.scaled_dot_product_attention(*heads))
    torch.testing.assert_close(windowed_circulant_attention(*qkv, (5, 7), 16, window_size), exact)


def test_far_tokens_are_reached():
    q, k, v = inputs((5, 7, 8, 4))
    other = v.clone()
    other[:, -1] += 1
    change = windowed_circulant_attention(q, k, other, (5, 7), 4, 2)
    change = change - windowed_circulant_attention(q, k, v, (5, 7), 4, 2)
    assert (change > 0).all()


def test_chunks_change_nothing(monkeypatch):
    shape = (9, 11, 8, 4)
    whole = outputs_and_gradients(attend(ops, shape, 3), inputs(shape))
    monkeypatch.setattr(chunks, 'CHUNK', 1000)
    torch.testing.assert_close(outputs_and_gradients(attend(ops, shape, 3), inputs(shape)), whole)


@every_form
@pytest.mark.parametrize('span', [5, 15, 30, 100])
def test_accuracy_where_projected_logits_exceed_exact_ones(span):
    """The documented error, and finite results beyond it."""
    shape = (9, 11, 8, 8)
    q, k, v = inputs(shape, torch.float32)
    logits = (q.double() @ k.double().mT) / 8**0.5
    excess = naive.windowed_logits(logits, (9, 11), 4) - (logits - logits.mean(2, keepdim=True))
    q = q * (span / excess.amax()).float()
    found = outputs_and_gradients(attend(ops, shape, 4), [q, k, v])
    exact = attend(naive, shape, 4)(*(x.double() for x in (q, k, v)))
    error = (found[0] - exact)[..., :8].abs().max() / v.abs().max()
    assert error <= min(1e-7 * math.exp(span), 2.0)
    assert all(x.isfinite().all() for x in found)


def test_a_window_without_tokens_is_refused():
    x = torch.zeros(2, 12, 8)
    with pytest.raises(InputError, match='at least 1, got 0'):
        windowed_circulant_attention(x, x, x, (3, 4), 4, 0)
