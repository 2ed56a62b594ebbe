"""The Triton kernels against torch's forms: on a GPU where there is one, else interpreted."""

import importlib
import subprocess
import sys
from functools import partial

import pytest
import torch

from mmca.errors import InputError
from mmca.layers import CirculantAttention
from mmca.ops import backend, naive, pointwise

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
pytest.importorskip('triton')
triton_kernels = importlib.import_module('mmca.ops.triton.kernels')

FUNCTIONS = 'mul_conj', 'softmax', 'softmax_backward', 'gate_', 'gate_backward_'
# Maps: one number, prime, one less and one more than a block, several blocks a part.
MAPS = [(1, 1), (1, 7), (31, 33), (25, 41), (64, 48), (90, 70)]


@pytest.fixture
def asked(monkeypatch):
    """MMCA_BACKEND=triton; gives the names of the kernels' functions as they are called."""
    calls = []

    def spied(name, function, *args):
        calls.append(name)
        return function(*args)

    for name in FUNCTIONS:
        function = getattr(triton_kernels, name)
        monkeypatch.setattr(triton_kernels, name, partial(spied, name, function))
    monkeypatch.setenv('MMCA_BACKEND', 'triton')
    return calls


def random(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(DEVICE)


def spectra(*shape, dtype=torch.float64, seed=0):
    return torch.view_as_complex(random(*shape, 2, dtype=dtype, seed=seed))


def close(value, expected, dtype):
    """Within a few roundings of the largest magnitude; the dtype is kept."""
    bound = 8 * torch.finfo(dtype).eps * expected.abs().max().item()
    assert value.dtype == expected.dtype
    torch.testing.assert_close(value, expected, rtol=0, atol=bound)


@pytest.mark.parametrize('out', ['a', 'b', 'other'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('shape', [(1, 1, 1, 1), (2, 3, 5, 4), (3, 2, 40, 21)], ids=str)
def test_products_with_conjugates_of_parts_of_the_channels(shape, dtype, out):
    batch, channels, *size = shape
    whole = spectra(batch, 3 * channels, *size, dtype=dtype)
    a, b, other = whole.chunk(3, 1)
    expected, kept = a * b.conj(), {'a': b, 'b': a, 'other': a}[out]
    before = kept.clone()
    result = triton_kernels.mul_conj(a, b, {'a': a, 'b': b, 'other': other}[out])
    assert result.data_ptr() == {'a': a, 'b': b, 'other': other}[out].data_ptr()
    close(torch.view_as_real(result), torch.view_as_real(expected), dtype)
    torch.testing.assert_close(kept, before, rtol=0, atol=0)


@pytest.mark.parametrize('programs', [1, 8, 1024])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('size', MAPS, ids=str)
def test_softmax_and_its_gradient(size, dtype, programs, monkeypatch):
    monkeypatch.setattr(triton_kernels, 'PROGRAMS', programs)
    logits = 5 * random(2, 3, *size, dtype=dtype) + 300
    logits[0, 0] -= 2000  # maps have nothing to do with each other
    weights = triton_kernels.softmax(logits)
    close(weights, pointwise.softmax(logits), dtype)
    grad = random(2, 3, *size, dtype=dtype, seed=1)
    expected = pointwise.softmax_backward(grad, weights)
    close(triton_kernels.softmax_backward(grad, weights), expected, dtype)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('length', [1, 7, 1023, 1025, 3000])
def test_gate_and_its_gradients(length, dtype):
    logits, out, grad = (random(2, 3, length, dtype=dtype, seed=seed) for seed in range(3))
    bias = random(3, dtype=dtype, seed=4)
    # In half precision torch rounds between its steps; the kernel does not.
    exact = [x.double() if dtype.itemsize == 2 else x.clone() for x in (logits, bias, out, grad)]
    close(
        triton_kernels.gate_(logits.clone(), bias, out),
        pointwise.gate_(exact[0].clone(), *exact[1:3]).to(dtype),
        dtype,
    )
    results = triton_kernels.gate_backward_(logits, bias, out, grad)
    for value, expected in zip(results, pointwise.gate_backward_(*exact), strict=True):
        close(value, expected.to(dtype), dtype)


@pytest.mark.parametrize('head_dim', [1, 4])
@pytest.mark.parametrize('size', [(5, 7), (12, 9), (40, 33)], ids=str)
def test_layer_against_the_dense_form(size, head_dim, asked):
    layer = CirculantAttention(8, head_dim).double().to(DEVICE)
    x = random(2, size[0] * size[1], 8).requires_grad_()
    y = layer(x, size)
    q, k, v = (x @ layer.qkv.weight.mT).chunk(3, 2)
    dense = naive.circulant_attention(q, k, v, size, head_dim)
    expected = layer.proj(dense * layer.gate(x))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    grad = random(*y.shape, seed=3)
    inputs = [x, *layer.parameters()]
    for value, exact in zip(
        torch.autograd.grad(y, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(value, exact, rtol=0, atol=1e-11)
    assert asked == [
        *('mul_conj', 'softmax', 'gate_'),
        *('gate_backward_', 'mul_conj', 'mul_conj', 'softmax_backward', 'mul_conj'),
    ]


def test_other_layouts_take_torchs_form(asked):
    logits = random(2, 3, 6, 5).transpose(2, 3)
    torch.testing.assert_close(
        pointwise.softmax(logits).sum((2, 3)), torch.ones_like(logits[..., 0, 0])
    )
    assert not asked


def test_nothing_is_used_unasked(asked, monkeypatch):
    monkeypatch.delenv('MMCA_BACKEND')
    pointwise.softmax(random(1, 2, 3, 4))
    assert not asked


def test_a_request_that_cannot_be_met_is_refused(asked, monkeypatch):
    monkeypatch.setattr(backend, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match="MMCA_BACKEND: the backend 'triton' needs Triton"):
        pointwise.softmax(random(1, 2, 3, 4))
    monkeypatch.undo()
    monkeypatch.setenv('MMCA_BACKEND', 'triton')
    monkeypatch.setenv('TRITON_INTERPRET', '0' if DEVICE == 'cpu' else '1')
    with pytest.raises(InputError, match=f'tensors here, got one on {DEVICE}'):
        pointwise.softmax(random(1, 2, 3, 4))


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mmca.ops.triton import kernels

capability, dtype = int(sys.argv[1]), sys.argv[2]
wide = kernels.tl.float64 if dtype == 'fp64' else kernels.tl.float32
constants = {'BLOCK': 1024, 'PARTS': 16, 'WIDE': wide}
scalars = {'numel', 'channels', 'length', 'part', 'parts', 'a_stride', 'b_stride', 'out_stride'}
kinds = dict.fromkeys(constants, 'constexpr') | dict.fromkeys(scalars, 'i32')
for name, function in vars(kernels).items():
    # Spectra and softmaxes are never narrower than float32.
    if isinstance(function, triton.JITFunction) and ('gate' in name or dtype[2:] in ('32', '64')):
        names = function.arg_names
        types = {n: kinds.get(n, '*' + dtype) for n in names}
        values = {(names.index(n),): constants[n] for n in names if n in constants}
        target = GPUTarget('cuda', capability, 32)
        compiled = triton.compile(ASTSource(function, types, values), target=target)
        assert compiled.asm['cubin'] and f'.entry {name}' in compiled.asm['ptx']
        print(name)
"""


@pytest.mark.parametrize(
    ('capability', 'dtype', 'kernels'),
    [(75, 'fp32', 7), (80, 'bf16', 2), (90, 'fp16', 2), (90, 'fp64', 7)],
)
def test_kernels_compile_for_gpus_without_one(capability, dtype, kernels, monkeypatch, tmp_path):
    monkeypatch.setenv('TRITON_INTERPRET', '0')
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    command = [sys.executable, '-c', COMPILE, str(capability), dtype]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == kernels
