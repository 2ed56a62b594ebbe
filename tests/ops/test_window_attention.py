"""Window attention with its written-out backward pass against the naive form."""

from importlib import import_module

import pytest
import torch

from mmca.ops import naive, use_backend, window_attention
from tests.tolerances import BLOCK_TOLERANCE


def arguments(windows, size, heads, dims, kinds, dtype=torch.float64):
    generator = torch.Generator().manual_seed(windows)
    width = heads * dims

    def random(*shape, scale=1.0):
        return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    tensors = [
        random(windows, size, width),
        random(3 * width, width, scale=width**-0.5),
        random(3 * width),
        random(width, width, scale=width**-0.5),
        random(width),
        random(heads, size, size),
    ]
    masks = []
    for kind, count in enumerate(kinds):
        far = torch.rand(size, size, generator=generator) < 0.4
        far.fill_diagonal_(False)
        mask = torch.zeros(size, size, dtype=dtype).masked_fill(far, float('-inf'))
        masks.append((count, mask if kind else None))
    return tensors, masks


CASES = [
    (1, 1, 1, 1, (1,)),
    (5, 4, 2, 3, (5,)),
    (7, 9, 3, 4, (4, 2, 0, 1)),
    (6, 49, 2, 8, (0, 0, 4, 2)),
]


def outputs_and_gradients(function, tensors, masks):
    tensors = [t.detach().requires_grad_() for t in tensors]
    out = function(*tensors, masks)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape).cos()
    return [out, *torch.autograd.grad(out, tensors, weight.to(out.dtype))]


@pytest.mark.parametrize('chunk', [1, 200, 1 << 21])
@pytest.mark.parametrize('case', CASES, ids=str)
@pytest.mark.parametrize('backend', ['cpu', 'eager'])
def test_equals_the_naive_form(backend, case, chunk, monkeypatch):
    monkeypatch.setattr(import_module('mmca.ops.window_attention'), 'CHUNK', chunk)
    given = arguments(*case)
    with use_backend(backend):
        ours = outputs_and_gradients(window_attention, *given)
    expected = outputs_and_gradients(naive.window_attention, *given)
    for value, exact in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-12)


def test_any_memory_layout_of_windows_and_gradients():
    (x, *tensors), masks = arguments(*CASES[2])
    expected = outputs_and_gradients(naive.window_attention, (x, *tensors), masks)
    strided = lambda x, *args: window_attention(x.mT.contiguous().mT, *args).mT.contiguous().mT  # noqa: E731
    for value, exact in zip(
        outputs_and_gradients(strided, (x, *tensors), masks), expected, strict=True
    ):
        torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(('dtype', 'tolerance'), BLOCK_TOLERANCE.items())
def test_every_dtype_stays_near_float64(dtype, tolerance):
    tensors, masks = arguments(*CASES[2], dtype)
    values = outputs_and_gradients(window_attention, tensors, masks)
    wide = [t.double() for t in tensors], [(n, m if m is None else m.double()) for n, m in masks]
    for value, expected in zip(
        values, outputs_and_gradients(naive.window_attention, *wide), strict=True
    ):
        assert value.dtype == dtype
        assert (value.double() - expected).abs().max() <= tolerance * expected.abs().max()


def test_autocast_multiplies_in_its_dtype():
    tensors, masks = arguments(*CASES[2], torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out, *grads = outputs_and_gradients(window_attention, tensors, masks)
    assert out.dtype == torch.bfloat16
    exact = outputs_and_gradients(naive.window_attention, tensors, masks)
    for value, expected in zip((out, *grads), exact, strict=True):
        assert (value.float() - expected).abs().max() <= 5e-2 * expected.abs().max()


def test_gradcheck():
    tensors, masks = arguments(*CASES[1])
    function = lambda *t: window_attention(*t, masks)  # noqa: E731
    assert torch.autograd.gradcheck(function, [t.requires_grad_() for t in tensors])


def test_keeps_its_input_alone():
    (x, *parameters), masks = arguments(*CASES[3])
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
        window_attention(x.requires_grad_(), *parameters, masks)
    known = {t.data_ptr() for t in (x, *parameters)}
    assert {t.data_ptr() for t in kept} <= known


def test_dropout_drops():
    tensors, masks = arguments(*CASES[2])
    torch.manual_seed(0)
    out = window_attention(*tensors, masks, dropout=0.5)
    assert not torch.allclose(out, window_attention(*tensors, masks))
