"""mlp, layer_norm and gated_projection against their naive forms, in both memory layouts."""

from functools import partial
from importlib import import_module

import pytest
import torch

from mmca.ops import gated_projection, layer_norm, mlp, naive, use_backend
from tests.tolerances import BLOCK_TOLERANCE

SHAPES = [(1, 1, 1), (1, 2, 3), (2, 1, 5), (2, 35, 8), (3, 101, 6), (1, 600, 16)]
EPS = 1e-6


def random(*sizes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(len(sizes))
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def arguments(name, shape, dtype=torch.float64):
    batch, tokens, dims = shape
    sizes = {
        'mlp': ((3 * dims, dims), (3 * dims,), (dims, 3 * dims), (dims,)),
        'norm': ((dims,), (dims,)),
        'gate': ((batch, tokens, dims), (dims, dims), (dims,), (dims, dims), (dims,)),
    }
    return random(shape, *sizes[name], dtype=dtype)


def channels_first(x):
    return x.mT.contiguous().mT


OPS = {
    'mlp': (mlp, naive.mlp),
    'norm': (partial(layer_norm, eps=EPS), partial(naive.layer_norm, eps=EPS)),
    'gate': (gated_projection, naive.gated_projection),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    # By name, because the package's attribute `mlp` is the function.
    monkeypatch.setattr(import_module('mmca.ops.mlp'), 'CHUNK', 100)


def outputs_and_gradients(function, tensors, layout):
    tensors = [t.detach().requires_grad_() for t in tensors]
    out = function(*(layout(t) if t.dim() == 3 else t for t in tensors))
    (weight,) = random(tuple(out.shape), dtype=out.dtype)
    return [out, *torch.autograd.grad(out, tensors, weight)]


@pytest.mark.parametrize('layout', [torch.Tensor.contiguous, channels_first])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('name', OPS)
@pytest.mark.parametrize('backend', ['cpu', 'eager'])
def test_equals_the_naive_form(backend, name, shape, layout):
    ours, naive_form = OPS[name]
    tensors = arguments(name, shape)
    with use_backend(backend):
        found = outputs_and_gradients(ours, tensors, layout)
    results = zip(found, outputs_and_gradients(naive_form, tensors, layout), strict=True)
    for value, expected in results:
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(('dtype', 'tolerance'), BLOCK_TOLERANCE.items())
@pytest.mark.parametrize('name', OPS)
def test_every_dtype_stays_near_float64(name, dtype, tolerance):
    ours, naive_form = OPS[name]
    tensors = arguments(name, (2, 35, 8), dtype)
    values = outputs_and_gradients(ours, tensors, channels_first)
    exact = outputs_and_gradients(naive_form, [t.double() for t in tensors], channels_first)
    for value, expected in zip(values, exact, strict=True):
        assert value.dtype == dtype
        error = (value.double() - expected).abs().max()
        assert error <= tolerance * expected.abs().max().clamp_min(1)


@pytest.mark.parametrize('name', OPS)
def test_gradcheck(name):
    tensors = [t.requires_grad_() for t in arguments(name, (2, 9, 4))]
    layout = lambda t: channels_first(t) if t.dim() == 3 else t  # noqa: E731
    assert torch.autograd.gradcheck(lambda *t: OPS[name][0](*map(layout, t)), tensors)


@pytest.mark.parametrize('name', ['mlp', 'norm'])
def test_keeps_the_memory_layout(name):
    x, *parameters = arguments(name, (2, 35, 8))
    assert OPS[name][0](x, *parameters).is_contiguous()
    assert OPS[name][0](channels_first(x), *parameters).mT.is_contiguous()


def test_mlp_computes_in_chunks_and_keeps_its_input_alone(monkeypatch):
    x, *parameters = (t.requires_grad_() for t in arguments('mlp', (2, 35, 8)))
    module, sizes = import_module('mmca.ops.mlp'), []
    affine = module._affine
    monkeypatch.setattr(module, '_affine', lambda *a: sizes.append(len(a[0])) or affine(*a))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
        mlp(x, *parameters)
    assert sizes[::2] == [4] * 17 + [2]  # 70 tokens, 100 // 24 at a time
    assert sum(t.numel() for t in kept if t.dim() == 3) == x.numel()


@pytest.mark.parametrize('name', ['mlp', 'gate'])
def test_autocast_multiplies_in_its_dtype(name):
    tensors = arguments(name, (2, 35, 8), torch.float32)
    ours, naive_form = OPS[name]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        values = outputs_and_gradients(ours, tensors, channels_first)
    assert values[0].dtype == torch.bfloat16
    assert all(value.dtype == torch.float32 for value in values[1:])
    expected = outputs_and_gradients(naive_form, tensors, channels_first)
    for value, exact in zip(values, expected, strict=True):
        assert (value - exact).abs().max() <= 6e-2 * exact.abs().max()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_mlp_accumulates_the_weights_gradients_in_float32(dtype, monkeypatch):
    """A thousand chunks of alike tokens: sums in half precision stop growing."""
    monkeypatch.setattr(import_module('mmca.ops.mlp'), 'CHUNK', 32)
    x = torch.ones(1, 4096, 4, dtype=dtype)
    parameters = [torch.full(size, 0.01, dtype=dtype) for size in ((8, 4), (8,), (4, 8), (4,))]
    exact = [t.double().requires_grad_() for t in parameters]
    naive.mlp(x.double(), *exact).mean().backward()
    parameters = [t.requires_grad_() for t in parameters]
    mlp(x, *parameters).mean().backward()
    for found, expected in zip(parameters, exact, strict=True):
        error = (found.grad.double() - expected.grad).abs().max()
        assert error <= 0.02 * expected.grad.abs().max()
