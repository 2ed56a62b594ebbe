"""Window attention with its written-out backward pass against the plain formula."""

from importlib import import_module

import pytest
import torch

from mmca.ops import window_attention


def plain(qkv, bias, masks):
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    size = qkv.shape[1]
    added = [(mask if mask is not None else qkv.new_zeros(size, size)) for _, mask in masks]
    counts = torch.tensor([count for count, _ in masks])
    mask = torch.stack(added).repeat_interleave(counts, 0)[:, None]
    logits = q @ k.mT / qkv.shape[-1] ** 0.5 + bias + mask
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)


def arguments(windows, size, heads, dims, kinds, dtype=torch.float64):
    generator = torch.Generator().manual_seed(windows)
    qkv = torch.randn(windows, size, 3, heads, dims, generator=generator, dtype=torch.float64)
    bias = torch.randn(heads, size, size, generator=generator, dtype=torch.float64)
    masks = []
    for kind, count in enumerate(kinds):
        far = torch.rand(size, size, generator=generator) < 0.4
        far.fill_diagonal_(False)
        mask = torch.zeros(size, size, dtype=dtype).masked_fill(far, float('-inf'))
        masks.append((count, mask if kind else None))
    return qkv.to(dtype), bias.to(dtype), masks


CASES = [
    (1, 1, 1, 1, (1,)),
    (5, 4, 2, 3, (5,)),
    (7, 9, 3, 4, (4, 2, 0, 1)),
    (6, 49, 2, 8, (0, 0, 4, 2)),
]


def outputs_and_gradients(function, qkv, bias, masks):
    qkv, bias = qkv.detach().requires_grad_(), bias.detach().requires_grad_()
    out = function(qkv, bias, masks)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape).cos()
    return [out, *torch.autograd.grad(out, (qkv, bias), weight.to(out.dtype))]


@pytest.mark.parametrize('chunk', [1, 200, 1 << 21])
@pytest.mark.parametrize('case', CASES, ids=str)
def test_equals_the_plain_formula(case, chunk, monkeypatch):
    monkeypatch.setattr(import_module('mmca.ops.window_attention'), 'CHUNK', chunk)
    given = arguments(*case)
    ours, expected = (outputs_and_gradients(f, *given) for f in (window_attention, plain))
    for value, exact in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 2e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)]
)
def test_every_dtype_stays_near_float64(dtype, tolerance):
    qkv, bias, masks = arguments(*CASES[2], dtype)
    values = outputs_and_gradients(window_attention, qkv, bias, masks)
    exact = outputs_and_gradients(
        plain, qkv.double(), bias.double(), [(n, m if m is None else m.double()) for n, m in masks]
    )
    for value, expected in zip(values, exact, strict=True):
        assert value.dtype == dtype
        assert (value.double() - expected).abs().max() <= tolerance * expected.abs().max()


def test_gradcheck():
    qkv, bias, masks = arguments(*CASES[1])
    function = lambda *t: window_attention(*t, masks)  # noqa: E731
    assert torch.autograd.gradcheck(function, (qkv.requires_grad_(), bias.requires_grad_()))


def test_keeps_no_weights():
    qkv, bias, masks = arguments(*CASES[3])
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
        window_attention(qkv.requires_grad_(), bias.requires_grad_(), masks)
    assert sum(t.numel() for t in kept) == qkv.numel() + bias.numel()


def test_dropout_drops():
    qkv, bias, masks = arguments(*CASES[2])
    torch.manual_seed(0)
    out = window_attention(qkv, bias, masks, dropout=0.5)
    assert not torch.allclose(out, window_attention(qkv, bias, masks))
