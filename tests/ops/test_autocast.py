"""Backward passes under a surrounding autocast.

Autocast surrounds a backward pass under torch.compile with AMP and wherever a user calls
`loss.backward()` inside of it.
"""

import pytest
import torch

from mmca.layers import Block, StageSpec, build_attention, registered_attentions
from mmca.ops import use_backend
from mmca.ops.backend import BACKENDS
from tests.helpers import half_dtypes, needs_new_torch
from tests.op_cases import OPS, inputs


@pytest.mark.parametrize('name', [n for n in OPS if n != 'windows'])  # autograd's products are cast
@half_dtypes
def test_backward_inside_autocast_equals_outside(name, dtype):
    function, gradients = OPS[name][0], []
    for inside in (False, True):
        tensors = inputs(name)
        with torch.autocast('cpu', dtype):
            loss = function(*tensors).square().sum()
            if inside:
                gradients.append(torch.autograd.grad(loss, tensors))
        if not inside:
            gradients.append(torch.autograd.grad(loss, tensors))
    for found, expected in zip(*gradients, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', OPS)
def test_autocast_is_off_inside(name, dtype, backend):
    tensors = [x.to(dtype) for x in inputs(name)]
    with use_backend(backend):
        expected = OPS[name][0](*tensors)
        with torch.autocast('cpu', torch.bfloat16):
            found = OPS[name][0](*tensors)
    assert torch.equal(found, expected)
    assert found.dtype == dtype


@needs_new_torch
@pytest.mark.parametrize('name', registered_attentions())
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_compiled_with_autocast_the_gradients_are_finite_and_near(name, dtype):
    torch._dynamo.reset()
    spec = StageSpec(embed_dims=8, num_heads=2, grid_size=6, sr_ratio=2, window_size=3)
    torch.manual_seed(0)
    attn = build_attention(name, spec)
    block = Block(8, attn, cpe=attn.uses_cpe)
    compiled = torch.compile(block, fullgraph=True, backend='aot_eager')
    results = []
    for run, cast in ((block, False), (compiled, True)):
        x = torch.linspace(-2, 2, 2 * 35 * 8).reshape(2, 35, 8).sin().requires_grad_()
        with torch.autocast('cpu', dtype, enabled=cast):
            loss = run(x, (5, 7)).float().square().mean()
        results.append(torch.autograd.grad(loss, [x, *block.parameters()]))
    for found, expected in zip(results[1], results[0], strict=True):
        assert found.isfinite().all()
        assert (found - expected).abs().max() <= 0.1 * expected.abs().max() + 1e-4
