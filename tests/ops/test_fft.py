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


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('hw_shape', [(1, 1), (1, 2), (2, 1), (3, 5), (7, 7), (8, 8), (14, 14)])
def test_matrices_equal_the_transform(hw_shape, dtype, monkeypatch):
    monkeypatch.setattr(fft, 'FORWARD_TOKENS', 10**6)
    x = torch.randn(2, 3, *hw_shape, dtype=dtype)
    torch.testing.assert_close(rfft2(x), torch.fft.rfft2(x))
    # Half spectra that belong to no real map too: the inverse leaves out what cannot be.
    x_hat = torch.randn(2, 3, hw_shape[0], hw_shape[1] // 2 + 1, dtype=torch.complex128)
    x_hat = x_hat.to(torch.promote_types(dtype, torch.complex64))
    expected = torch.fft.irfft2(x_hat, s=hw_shape, norm='forward')
    torch.testing.assert_close(irfft2(x_hat, hw_shape), expected)
