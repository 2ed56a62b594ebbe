"""Many training steps in half precision: every gradient is finite."""

import pytest
import torch

from mmca.backbones import CAPVT, CASwin
from mmca.ops import circulant_self_attention, focused_linear_attention
from tests.tiny import PVT, SWIN

DTYPES = [torch.float16, torch.bfloat16]
# Token grids of 1333 x 800 images and of odd ones, at strides 4 to 32.
GRIDS = [(200, 336), (199, 331), (100, 168), (50, 84), (25, 42), (25, 41), (13, 21), (7, 1)]
every_dtype = pytest.mark.parametrize('dtype', DTYPES)


def circulant(tokens, hw_shape, weight):
    return circulant_self_attention(tokens, weight, hw_shape)


def linear(tokens, hw_shape, weight):
    q, k, v = (tokens @ weight.mT).chunk(3, 2)
    return focused_linear_attention(q, k, v, torch.ones(v.shape[2], dtype=v.dtype), num_heads=2)


OPS = {'circulant': circulant, 'linear': linear}


def op_steps(function, dtype, number):
    """The number of steps whose output and gradients are finite; the numbers' size varies."""
    generator, finite = torch.Generator().manual_seed(0), 0
    for step in range(number):
        hw_shape = GRIDS[step % len(GRIDS)]
        size = 10 ** torch.empty(1).uniform_(-2, 1, generator=generator).item()
        x = size * torch.randn(1, hw_shape[0] * hw_shape[1], 16, generator=generator)
        weight = torch.randn(48, 16, generator=generator) / 4
        x, weight = (t.to(dtype).requires_grad_() for t in (x, weight))
        out = function(x, hw_shape, weight)
        grads = torch.autograd.grad(out.float().square().mean(), (x, weight))
        finite += all(t.isfinite().all() and t.dtype == dtype for t in (out, *grads))
    return finite


def model_steps(model, dtype, number):
    """Optimizer steps with finite gradients, and those that the scaler skipped."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler('cpu', enabled=dtype == torch.float16)
    finite = skipped = 0
    for step in range(number):
        images = torch.randn(1, 3, 64, 64 + 11 * (step % 3))
        with torch.autocast('cpu', dtype):
            loss = sum(out.float().square().mean() for out in model(images))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        good = all(p.grad.isfinite().all() for p in model.parameters())
        finite, skipped = finite + bool(good), skipped + (not good)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert all(p.isfinite().all() for p in model.parameters())
    return finite, skipped


@every_dtype
@pytest.mark.parametrize('name', OPS)
def test_an_op_on_every_grid(name, dtype):
    assert op_steps(OPS[name], dtype, len(GRIDS)) == len(GRIDS)


@every_dtype
@pytest.mark.parametrize(('kind', 'arch'), [(CAPVT, PVT), (CASwin, SWIN)])
def test_a_few_steps_of_a_tiny_model(kind, arch, dtype):
    assert model_steps(kind(arch), dtype, 6) == (6, 0)


@pytest.mark.stress
@every_dtype
@pytest.mark.parametrize('name', OPS)
def test_a_thousand_steps_of_an_op(name, dtype, tally):
    what = f'steps of {name} attention in {dtype} on grids of up to 200 x 336, finite'
    tally(what, 1000, op_steps(OPS[name], dtype, 1000))


@pytest.mark.stress
@every_dtype
@pytest.mark.parametrize(('kind', 'arch'), [(CAPVT, 'small'), (CASwin, 'tiny')])
def test_steps_of_a_model(kind, arch, dtype, tally):
    """The scaler starts at 65,536 and may skip a few steps until it has found its scale."""
    finite, skipped = model_steps(kind(arch), dtype, 200)
    assert skipped <= 10
    what = f'optimizer steps of {kind.__name__} {arch} in {dtype}, finite or skipped ({skipped})'
    tally(what, 200, finite + skipped)
