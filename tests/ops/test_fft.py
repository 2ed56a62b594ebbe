"""The transform's helpers against their definitions."""

import pytest
import torch

from mmca.ops import fft
from mmca.ops.fft import irfft2, parseval_product, rfft2


@pytest.mark.parametrize('hw_shape', [(1, 1), (1, 2), (2, 1), (3, 5), (4, 6), (5, 4), (7, 1)])
def test_parseval_product(hw_shape):
    a = torch.randn(2, 3, *hw_shape, dtype=torch.float64)
    b = torch.randn(2, 4, *hw_shape, dtype=torch.float64)
    expected = torch.einsum('bihw,bjhw->ij', a, b) * hw_shape[0] * hw_shape[1]
    torch.testing.assert_close(parseval_product(rfft2(a), rfft2(b), hw_shape[1]), expected)


def assert_equal_to_rounding(found, expected):
    """Every sum has terms as large as the largest result: that is what rounding goes by."""
    rounding = torch.finfo(expected.dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=16 * rounding)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('hw_shape', [(1, 1), (1, 2), (2, 1), (3, 5), (7, 7), (8, 8), (14, 14)])
def test_matrices_equal_the_transform(hw_shape, dtype, monkeypatch):
    monkeypatch.setattr(fft, 'FORWARD_TOKENS', 10**6)
    x = torch.randn(2, 3, *hw_shape, dtype=dtype)
    assert_equal_to_rounding(rfft2(x), torch.fft.rfft2(x))
    # Half spectra that belong to no real map too: the inverse leaves out what cannot be.
    x_hat = torch.randn(2, 3, hw_shape[0], hw_shape[1] // 2 + 1, dtype=torch.complex128)
    x_hat = x_hat.to(torch.promote_types(dtype, torch.complex64))
    expected = torch.fft.irfft2(x_hat, s=hw_shape, norm='forward')
    assert_equal_to_rounding(irfft2(x_hat, hw_shape), expected)


@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('tokens', [1, 2000, 10**4])
def test_chunks_equal_the_whole(batch, tokens, monkeypatch):
    """Of one map, of some maps of an image, of some images; also between other spectra."""
    monkeypatch.setattr(fft, 'CHUNK', tokens)
    x_hat = torch.randn(batch, 9, 17, 10, dtype=torch.complex64)[:, 3:6]
    expected = torch.fft.irfft2(x_hat, s=(17, 19), norm='forward')
    torch.testing.assert_close(irfft2(x_hat, (17, 19)), expected, rtol=0, atol=0)


def test_the_inverse_has_a_gradient():
    x_hat = torch.randn(2, 3, 17, 10, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: irfft2(x, (17, 19)), x_hat)
