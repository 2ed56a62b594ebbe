"""Ops, blocks, backbones and necks under CUDA's autocast rules, imitated on the CPU."""

import pytest
import torch
import torch.nn.functional as F

from mmca.layers import Block, StageSpec, build_attention, registered_attentions
from mmca.necks import NormPool, SimpleFeaturePyramid
from mmca.ops import use_backend
from mmca.ops.backend import BACKENDS
from tests.cuda_autocast import cuda_rules
from tests.helpers import needs_new_torch
from tests.op_cases import OPS, inputs
from tests.tiny import HIERARCHICAL, PLAIN

# Error over the largest magnitude: of one op, and of a model. Linear attention divides gradients by
# the length of a query, so that in bfloat16 its shortest queries decide the gradients before it.
OP = {torch.float16: 1e-2, torch.bfloat16: 6e-2}
MODEL = {torch.float16: 5e-2, torch.bfloat16: 0.6}
pytestmark = needs_new_torch
half_dtypes = pytest.mark.parametrize('dtype', list(OP))
places = pytest.mark.parametrize('inside', [False, True], ids=['outside', 'inside'])


@pytest.fixture(autouse=True, scope='module')
def rules():
    # On processors with AMX, oneDNN's bfloat16 convolutions of 8 and 16 channels whose stride is
    # their kernel are wrong (torch 2.13).
    with cuda_rules(), torch.backends.mkldnn.flags(enabled=False):
        yield


def test_the_rules_are_those_of_cuda():
    """As PyTorch documents them."""
    x = torch.rand(4, 4)
    half = x.half()
    with torch.autocast('cpu', torch.float16):
        for out in (x @ x, torch.mm(x, x), F.linear(x, x), F.conv2d(x[None, None], x[None, None])):
            assert out.dtype == torch.float16
        for out in (half.softmax(-1), half.sum(), half**2, half.norm(dim=-1), half.exp()):
            assert out.dtype == torch.float32
        for out in (F.layer_norm(half, (4,)), half.cumsum(0), half.reciprocal(), half.rsqrt()):
            assert out.dtype == torch.float32
        assert (half + half).dtype == F.gelu(half).dtype == torch.float16
        assert (x.double() @ x.double()).dtype == torch.float64
        assert torch.view_as_complex(half.view(4, 2, 2)).dtype == torch.complex32
        with pytest.raises(RuntimeError, match='Unsupported dtype Half'):
            torch.fft.rfft2(half)


def run(function, leaves, dtype=None, inside=False):
    """The outputs and the gradients of `leaves`; the backward pass inside of autocast or not."""
    with torch.autocast('cpu', dtype or torch.float16, enabled=dtype is not None):
        outs = function()
        # Random directions: the sum of a norm's output has no gradient.
        generator = torch.Generator().manual_seed(1)
        loss = sum(
            (out.float() * torch.randn(out.shape, generator=generator)).sum() for out in outs
        )
        if inside:
            return [*outs, *torch.autograd.grad(loss, leaves)]
    return [*outs, *torch.autograd.grad(loss, leaves)]


def check(found, expected, tolerance):
    for value, exact in zip(found, expected, strict=True):
        assert value.isfinite().all()
        error = (value.float() - exact).abs().max()
        assert error <= tolerance * exact.abs().max().clamp_min(1e-4), error


@half_dtypes
@places
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('name', OPS)
@pytest.mark.parametrize('given', ['float', 'half'])
def test_ops(given, name, backend, inside, dtype):
    """On float32, and on what a layer in front of the op returns under autocast."""
    kind = dtype if given == 'half' else torch.float32
    tensors = [t.detach().to(kind).requires_grad_() for t in inputs(name)]
    wide = [t.detach().float().requires_grad_() for t in tensors]
    with use_backend(backend):
        found = run(lambda: [OPS[name][0](*tensors)], tensors, dtype, inside)
    check(found, run(lambda: [OPS[name][0](*wide)], wide), OP[dtype])
    assert found[0].dtype == kind


@half_dtypes
@places
@pytest.mark.parametrize('name', registered_attentions())
def test_blocks(name, inside, dtype):
    torch.manual_seed(0)
    spec = StageSpec(embed_dims=8, num_heads=2, grid_size=6, sr_ratio=2, window_size=3, block=1)
    attn = build_attention(name, spec)
    block, x = Block(8, attn, cpe=attn.uses_cpe), torch.randn(2, 35, 8, requires_grad=True)
    task = lambda: [block(x, (5, 7))], [x, *block.parameters()]
    check(run(*task, dtype, inside), run(*task), MODEL[dtype])


@half_dtypes
@places
@pytest.mark.parametrize(
    ('kind', 'arch'), [*HIERARCHICAL, *PLAIN], ids=lambda x: getattr(x, '__name__', '')
)
def test_backbones(kind, arch, inside, dtype):
    torch.manual_seed(0)
    model, images = kind(arch, drop_path_rate=0.0), torch.randn(2, 3, 96, 77)
    task = lambda: model(images), list(model.parameters())
    for value, expected in zip(run(*task, dtype, inside), run(*task), strict=True):
        assert value.isfinite().all()
        error = (value.float() - expected).norm() / expected.norm().clamp_min(1e-3)
        assert error <= MODEL[dtype], error


@half_dtypes
@places
@pytest.mark.parametrize('neck', [SimpleFeaturePyramid(16, 8), NormPool(16)])
def test_necks(neck, inside, dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 16, 5, 7, requires_grad=True)
    task = lambda: neck((x,)), [x, *neck.parameters()]
    check(run(*task, dtype, inside), run(*task), MODEL[dtype])
