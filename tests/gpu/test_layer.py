"""Layers and ops on a GPU against float64 on the CPU, in every way that training runs them."""

import copy

import pytest
import torch

from mmca.layers import Block, CirculantAttention, StageSpec, build_attention, registered_attentions
from mmca.ops import use_backend
from mmca.ops.backend import BACKENDS
from tests.op_cases import OPS, inputs
from tests.tolerances import BLOCK_TOLERANCE

TOLERANCE = BLOCK_TOLERANCE | {None: BLOCK_TOLERANCE[torch.float32]}  # None: no autocast
GRIDS = [(7, 7), (14, 9), (25, 42), (64, 64), (100, 168), (197, 131), (200, 336), (296, 296)]
backends = pytest.mark.parametrize('backend', BACKENDS)
precisions = pytest.mark.parametrize('dtype', [None, torch.float16, torch.bfloat16], ids=str)


def direction(like):
    """Random numbers, the same on every device and in every dtype."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def results(module, x, hw_shape, dtype=None, backward_inside=False):
    """Output, then gradients of the input and of all parameters, for a fixed random direction."""
    x = x.detach().requires_grad_()
    leaves = [x, *module.parameters()]
    with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
        out = module(x, hw_shape)
        loss = (out * direction(out)).sum()
        if backward_inside:
            return [out, *torch.autograd.grad(loss, leaves)]
    return [out, *torch.autograd.grad(loss, leaves)]


def check(found, expected, tolerance):
    for i, (value, exact) in enumerate(zip(found, expected, strict=True)):
        assert value.isfinite().all(), i
        error = (value.detach().cpu().double() - exact).abs().max()
        assert error <= tolerance * exact.abs().max(), (i, error / exact.abs().max())


def pair(module, device):
    """The same module in float64 on the CPU and in float32 on the device."""
    exact = copy.deepcopy(module).double()
    return exact, module.to(device)


@backends
@precisions
@pytest.mark.parametrize('reweighting', ['post', 'pre', None])
@pytest.mark.parametrize('head_dim', [1, 4, 16])
@pytest.mark.parametrize('layout', ['tokens', 'channels'])
def test_circulant_attention(layout, head_dim, reweighting, dtype, backend, device):
    torch.manual_seed(0)
    layer, hw_shape = CirculantAttention(16, head_dim, reweighting), (13, 22)
    exact, layer = pair(layer, device)
    x = torch.randn(2, 286, 16)
    x = x if layout == 'tokens' else x.mT.contiguous().mT
    expected = results(exact, x.double(), hw_shape)
    with use_backend(backend):
        found = results(layer, x.to(device), hw_shape, dtype, backward_inside=dtype is not None)
    check(found, expected, TOLERANCE[dtype])


@backends
@pytest.mark.parametrize('hw_shape', GRIDS, ids=str)
def test_grids(hw_shape, backend, device):
    torch.manual_seed(0)
    exact, layer = pair(CirculantAttention(4), device)
    x = torch.randn(1, hw_shape[0] * hw_shape[1], 4)
    with use_backend(backend):
        found = results(layer, x.to(device), hw_shape)
    check(found, results(exact, x.double(), hw_shape), TOLERANCE[None])


@precisions
@pytest.mark.parametrize('name', OPS)
def test_ops(name, dtype, device):
    op, tensors = OPS[name][0], inputs(name)

    def run(tensors, dtype):
        tensors = [t.detach().requires_grad_() for t in tensors]
        with torch.autocast(tensors[0].device.type, dtype, enabled=dtype is not None):
            out = op(*tensors)
        return [out, *torch.autograd.grad((out * direction(out)).sum(), tensors)]

    found = run([t.to(device) for t in tensors], dtype)
    # Linear attention divides gradients by the length of a query: short ones lose digits.
    loose = 3 if name == 'focused_linear_attention' else 1
    check(found, run([t.double() for t in tensors], None), loose * TOLERANCE[dtype])


def block(name):
    torch.manual_seed(0)
    spec = StageSpec(embed_dims=16, num_heads=2, grid_size=14, sr_ratio=2, window_size=7, block=1)
    attn = build_attention(name, spec)
    return Block(16, attn, cpe=attn.uses_cpe)


@pytest.mark.parametrize('name', registered_attentions())
def test_blocks(name, device):
    exact, found = pair(block(name), device)
    x = torch.randn(2, 196, 16)
    expected = results(exact, x.double(), (14, 14))
    check(results(found, x.to(device), (14, 14)), expected, TOLERANCE[None])


@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize('name', registered_attentions())
def test_compiled(name, dtype, device):
    torch._dynamo.reset()
    module, x = block(name).to(device), torch.randn(2, 196, 16, device=device)
    expected = [t.detach().cpu().double() for t in results(module, x, (14, 14), dtype)]
    compiled = torch.compile(module)
    check(results(compiled, x, (14, 14), dtype), expected, TOLERANCE[dtype])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@backends
def test_nothing_waits_for_the_gpu(backend, device):
    """After a first step, in which plans and tables are made."""
    layer, x = CirculantAttention(16).to(device), torch.randn(2, 286, 16, device=device)
    with use_backend(backend):
        results(layer, x, (13, 22))
        grad = direction(x)
        torch.cuda.set_sync_debug_mode('error')
        try:
            layer(x, (13, 22)).backward(grad)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@backends
def test_graph_capture(backend, device):
    """A captured forward pass, replayed on other inputs."""
    layer = CirculantAttention(16).to(device).eval()
    static = torch.randn(2, 286, 16, device=device)
    with torch.no_grad(), use_backend(backend):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            layer(static, (13, 22))
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = layer(static, (13, 22))
        x = torch.randn_like(static)
        static.copy_(x)
        graph.replay()
        torch.testing.assert_close(out, layer(x, (13, 22)), rtol=1e-5, atol=1e-6)
