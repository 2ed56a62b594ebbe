"""Window attention against its dense form."""

import pytest
import torch

from mmca.ops import naive
from mmca.ops.window import window_attention
from tests.op_cases import outputs_and_gradients
from tests.tolerances import BLOCK_TOLERANCE

CASES = [(1, 1, 1, 1), (5, 4, 2, 3), (7, 9, 3, 4), (6, 49, 2, 8)]  # windows, tokens, heads, dims


def arguments(windows, size, heads, dims, dtype=torch.float64):
    generator = torch.Generator().manual_seed(windows)
    qkv = torch.randn(windows, size, 3 * heads * dims, generator=generator, dtype=torch.float64)
    bias = torch.randn(heads, size, size, generator=generator, dtype=torch.float64)
    far = (torch.rand(size, size, generator=generator) < 0.4).fill_diagonal_(False)
    return qkv.to(dtype), bias.masked_fill(far, float('-inf')).to(dtype)


@pytest.mark.parametrize('dtype', [torch.float64, *BLOCK_TOLERANCE])
@pytest.mark.parametrize('case', CASES, ids=str)
def test_equals_the_dense_form(case, dtype):
    if dtype == torch.float16 and torch.__version__ < (2, 6):
        pytest.skip(f'torch {torch.__version__} lacks products in half precision on CPUs')
    tensors = arguments(*case, dtype)
    found = outputs_and_gradients(window_attention, tensors)
    expected = outputs_and_gradients(naive.window_attention, [t.double() for t in tensors])
    for value, exact in zip(found, expected, strict=True):
        assert value.dtype == dtype
        error = (value.double() - exact).abs().max()
        assert error <= BLOCK_TOLERANCE.get(dtype, 1e-12) * exact.abs().max().clamp_min(1)


def test_dropout_drops():
    tensors = arguments(*CASES[2])
    torch.manual_seed(0)
    assert not torch.allclose(window_attention(*tensors, dropout=0.5), window_attention(*tensors))
