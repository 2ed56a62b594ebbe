"""Window attention with its written-out backward pass against the plain formula."""

from importlib import import_module

import pytest
import torch

from mmca.ops import window_attention


def plain(x, w_qkv, b_qkv, w_proj, b_proj, bias, masks):
    size = x.shape[1]
    q, k, v = (x @ w_qkv.mT + b_qkv).unflatten(2, (3, len(bias), -1)).permute(2, 0, 3, 1, 4)
    added = [(mask if mask is not None else x.new_zeros(size, size)) for _, mask in masks]
    counts = torch.tensor([count for count, _ in masks])
    mask = torch.stack(added).repeat_interleave(counts, 0)[:, None]
    logits = q @ k.mT / q.shape[-1] ** 0.5 + bias + mask
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2) @ w_proj.mT + b_proj


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
def test_equals_the_plain_formula(case, chunk, monkeypatch):
    monkeypatch.setattr(import_module('mmca.ops.window_attention'), 'CHUNK', chunk)
    given = arguments(*case)
    ours, expected = (outputs_and_gradients(f, *given) for f in (window_attention, plain))
    for value, exact in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-12)


def test_any_memory_layout_of_windows_and_gradients():
    (x, *tensors), masks = arguments(*CASES[2])
    expected = outputs_and_gradients(plain, (x, *tensors), masks)
    strided = lambda x, *args: window_attention(x.mT.contiguous().mT, *args).mT.contiguous().mT  # noqa: E731
    for value, exact in zip(
        outputs_and_gradients(strided, (x, *tensors), masks), expected, strict=True
    ):
        torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 2e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)]
)
def test_every_dtype_stays_near_float64(dtype, tolerance):
    tensors, masks = arguments(*CASES[2], dtype)
    values = outputs_and_gradients(window_attention, tensors, masks)
    wide = [t.double() for t in tensors], [(n, m if m is None else m.double()) for n, m in masks]
    for value, expected in zip(values, outputs_and_gradients(plain, *wide), strict=True):
        assert value.dtype == dtype
        assert (value.double() - expected).abs().max() <= tolerance * expected.abs().max()


def test_autocast_multiplies_in_its_dtype():
    tensors, masks = arguments(*CASES[2], torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out, *grads = outputs_and_gradients(window_attention, tensors, masks)
    assert out.dtype == torch.bfloat16
    exact = outputs_and_gradients(plain, tensors, masks)
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
