"""Circulant attention by FFT against its dense forms, outputs and gradients."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmca.errors import InputError
from mmca.ops import (
    circulant_attention,
    circulant_attention_reference,
    circulant_kernel,
    circulant_self_attention,
    naive,
    use_backend,
)
from mmca.ops.circulant import logit_scale
from mmca.ops.dft import matrix_macs, real_form
from tests.helpers import slow
from tests.op_cases import assert_close, outputs_and_gradients
from tests.tolerances import ATTENTION_TOLERANCE as TOLERANCE

# (H, W, C, d)
LINES = [(1, 1, 4, 1), (1, 2, 4, 1), (2, 1, 4, 2), (1, 3, 4, 4), (1, 7, 8, 1), (7, 1, 8, 4)]
LINES += [(1, 16, 16, 16), (1, 101, 4, 2), (53, 1, 3, 1)]
SQUARES = [(2, 2, 3, 1), (3, 3, 5, 1), (7, 7, 24, 1), (7, 7, 16, 4), (8, 8, 16, 16)]
SQUARES += [(14, 14, 24, 1), (14, 14, 8, 4), (16, 16, 8, 1), (31, 31, 3, 1)]
PRIME = [(3, 5, 12, 4), (5, 7, 32, 16), (11, 13, 6, 1), (13, 11, 16, 16), (17, 19, 4, 4)]
PRIME += [(19, 17, 16, 16), (23, 2, 8, 1), (2, 29, 8, 4)]
OBLONG = [(3, 2, 16, 16), (4, 7, 8, 1), (6, 4, 9, 3), (9, 3, 7, 1), (10, 6, 4, 4), (12, 5, 10, 10)]
LARGE = [(25, 42, 2, 1), (32, 24, 4, 2)]
SHAPES = LINES + SQUARES + PRIME + OBLONG
SCALES = ['sqrt', 'paper', 0.03]
FORMS = circulant_attention, circulant_attention_reference
every_shape = pytest.mark.parametrize(
    'shape', [*SHAPES, *slow(*((shape,) for shape in LARGE))], ids=str
)
both_forms = pytest.mark.parametrize('form', FORMS, ids=['fused', 'reference'])


def inputs(shape, dtype=torch.float64, batch=2, seed=0):
    height, width, channels, _ = shape
    generator = torch.Generator().manual_seed(seed)
    size = (3, batch, height * width, channels)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).unbind()


@both_forms
@pytest.mark.parametrize('dtype', TOLERANCE)
@every_shape
def test_matches_the_dense_form_in_every_dtype(shape, dtype, form):
    qkv, share = inputs(shape, dtype), 0.0 if dtype == torch.float64 else 0.1
    channels_first = [x.mT.contiguous().mT for x in qkv]
    for scale in SCALES if dtype == torch.float64 else SCALES[:1]:
        args = (shape[:2], shape[3], scale)
        exact = outputs_and_gradients(naive.circulant_attention, [x.double() for x in qkv], *args)
        for given in (qkv, channels_first):
            found = outputs_and_gradients(form, given, *args)
            assert all(value.dtype == dtype for value in found)
            assert_close(found, exact, TOLERANCE[dtype], share)


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('shape', [s for s in SHAPES if math.prod(s[:2]) <= 150], ids=str)
def test_is_the_projection_of_softmax_attention(shape, scale):
    """The paper's claim: Q K^T is replaced by the nearest BCCB matrix (Frobenius norm)."""
    args = (shape[:2], shape[3], scale)
    found = outputs_and_gradients(circulant_attention, inputs(shape), *args)

    def projected(q, k, v, hw_shape, head_dim, scale):
        q, k, v = (x.unflatten(2, (-1, head_dim)).transpose(1, 2) for x in (q, k, v))
        logits = naive.nearest_bccb(q @ k.mT, hw_shape) * q.shape[2]
        weights = (logits * logit_scale(scale, q.shape[2], head_dim)).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    dense = outputs_and_gradients(projected, inputs(shape), *args)
    assert_close(found, dense, TOLERANCE[torch.float64])


def test_projection_is_the_nearest_bccb_matrix():
    hw_shape = (3, 4)
    matrix = torch.randn(12, 12, dtype=torch.float64)
    nearest = naive.nearest_bccb(matrix, hw_shape)
    torch.testing.assert_close(nearest, naive.bccb(nearest[0], hw_shape))
    torch.testing.assert_close(naive.nearest_bccb(nearest, hw_shape), nearest)
    distance = (matrix - nearest).norm()
    for _ in range(50):
        other = naive.bccb(nearest[0] + 0.1 * torch.randn(12, dtype=torch.float64), hw_shape)
        assert (matrix - other).norm() > distance


def test_equivariant_to_shifts_of_the_torus():
    height, width = 6, 9
    q, k, v = inputs((height, width, 8, 4))

    def shifted(x):
        return x.unflatten(1, (height, width)).roll((2, -4), (1, 2)).flatten(1, 2)

    out = circulant_attention(q, k, v, (height, width), 4)
    moved = circulant_attention(shifted(q), shifted(k), shifted(v), (height, width), 4)
    torch.testing.assert_close(moved, shifted(out))


def test_padding_the_grid_changes_every_token():
    q, k, v = inputs((4, 4, 2, 1))

    def padded(x):
        return torch.nn.functional.pad(x.unflatten(1, (4, 4)), (0, 0, 0, 2)).flatten(1, 2)

    alone = circulant_attention(q, k, v, (4, 4)).unflatten(1, (4, 4))
    wider = circulant_attention(padded(q), padded(k), padded(v), (4, 6)).unflatten(1, (4, 6))
    assert ((alone - wider[:, :, :4]).abs() > 1e-6).all()


@both_forms
@pytest.mark.parametrize('size', [(512, 512), (200, 336)])
def test_large_grids_lose_no_digits(size, form):
    """Logits with a large common offset, which grows with sqrt(N), as real features have."""
    shape = (*size, 2, 1)
    q, k, v = inputs(shape, batch=1)
    q, k = q + 5, k + 5
    exact = form(q, k, v, size)
    single = form(q.float(), k.float(), v.float(), size)
    assert (single - exact).abs().max() <= 2e-5 * exact.abs().max()
    assert form(q.half(), k.half(), v.half(), size).isfinite().all()


def test_scales():
    assert logit_scale('sqrt', 49, 4) == pytest.approx(1 / math.sqrt(49 * 4))
    assert logit_scale('paper', 49, 4) == pytest.approx(1 / (49 * 2))
    assert logit_scale(0.3, 49, 4) == 0.3


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'hw_shape': (3, 5)}, r'hw_shape=\(3, 5\) has 15 tokens.*N=12'),
        ({'hw_shape': (-3, -4)}, r'hw_shape=\(-3, -4\)'),
        ({'head_dim': 3}, 'head_dim=3, C=8'),
        ({'head_dim': 0}, 'head_dim=0, C=8'),
        ({'scale': 'sqr'}, "'sqr'"),
        ({'scale': float('nan')}, 'nan'),
        ({'k': torch.zeros(2, 12, 4)}, r'\(2, 12, 4\)'),
        ({'q': torch.zeros(2, 8, 3, 4)}, r'\(2, 8, 3, 4\)'),
    ],
)
def test_bad_input_is_named(change, message):
    x = torch.zeros(2, 12, 8)
    arguments = {'q': x, 'k': x, 'v': x, 'hw_shape': (3, 4)} | change
    with pytest.raises(InputError, match=message):
        circulant_attention(**arguments)


def tokens_and_weight(shape, dtype=torch.float64):
    channels = shape[2]
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3 * channels, channels, generator=generator, dtype=torch.float64)
    return inputs(shape, dtype)[0], (weight / math.sqrt(channels)).to(dtype)


@pytest.mark.parametrize('backend', ['fused', 'eager'])
@pytest.mark.parametrize('dtype', TOLERANCE)
@every_shape
def test_projecting_the_spectrum_equals_projecting_tokens(shape, dtype, backend):
    given = tokens_and_weight(shape, dtype)
    wide = [x.double() for x in given]
    for scale in SCALES if dtype == torch.float64 else SCALES[:1]:
        args = (shape[:2], shape[3], scale)
        with use_backend(backend):
            found = outputs_and_gradients(circulant_self_attention, given, *args)
        exact = outputs_and_gradients(naive.circulant_self_attention, wide, *args)
        assert all(value.dtype == dtype for value in found)
        assert_close(found, exact, TOLERANCE[dtype])


@pytest.mark.parametrize('shape', [s for s in SHAPES if math.prod(s[:2]) <= 60], ids=str)
def test_the_kernel_equals_the_dense_form(shape):
    q, k, _ = inputs(shape)
    args = (shape[:2], shape[3], 'paper')
    torch.testing.assert_close(circulant_kernel(q, k, *args), naive.circulant_kernel(q, k, *args))


@pytest.mark.parametrize('frozen', [0, 1])
def test_gradient_of_one_input_alone(frozen):
    given = list(tokens_and_weight((4, 6, 8, 2)))
    both = outputs_and_gradients(circulant_self_attention, given, (4, 6), 2)

    def alone(x):
        return circulant_self_attention(*([x, given[1]] if frozen else [given[0], x]), (4, 6), 2)

    (_, gradient) = outputs_and_gradients(alone, [given[1 - frozen]])
    torch.testing.assert_close(gradient, both[2 - frozen])


def test_second_order_gradients_are_refused_not_wrong():
    x, weight = (t.requires_grad_() for t in tokens_and_weight((3, 4, 4, 1)))
    out = circulant_self_attention(x, weight, (3, 4))
    (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        gradient.sum().backward()


def test_weight_of_another_width_is_refused():
    with pytest.raises(InputError, match=r'\(12, 4\).*got \(12, 5\)'):
        circulant_self_attention(torch.zeros(1, 6, 4), torch.zeros(12, 5), (2, 3))


@pytest.mark.parametrize('shape', [s for s in SHAPES if s[0] * s[1] <= 330], ids=str)
def test_the_form_for_onnx_is_real_and_equal(shape, monkeypatch):
    monkeypatch.setattr(torch.onnx, 'is_in_onnx_export', lambda: True)
    monkeypatch.setattr(torch.fft, 'rfft2', None)  # not to be called
    args = (shape[:2], shape[3], 'sqrt')
    exported = circulant_attention(*inputs(shape), *args)
    torch.testing.assert_close(exported, naive.circulant_attention(*inputs(shape), *args))
    x, weight = tokens_and_weight(shape)
    exported = circulant_self_attention(x, weight, *args)
    torch.testing.assert_close(exported, naive.circulant_self_attention(x, weight, *args))


@pytest.mark.parametrize('head_dim', [1, 2])
def test_the_macs_of_that_form_are_those_that_torch_counts(head_dim):
    height, width, channels = 6, 9, 4
    qkv = torch.randn(1, 3 * channels, height, width)
    with FlopCounterMode(display=False) as counter:
        real_form(qkv, None, channels // head_dim, head_dim)
    spectral = 4 * height * width * channels  # element by element, which torch does not count
    counted = counter.get_total_flops() // 2
    assert matrix_macs((height, width), channels, head_dim) == counted + spectral


def test_that_form_computes_half_precision_in_single(monkeypatch):
    x, weight = tokens_and_weight((5, 7, 8, 1))
    x, weight = x.half(), weight.half()
    expected = circulant_self_attention(x, weight, (5, 7))
    monkeypatch.setattr(torch.onnx, 'is_in_onnx_export', lambda: True)
    found = circulant_self_attention(x, weight, (5, 7))
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=2**-10)  # one rounding
