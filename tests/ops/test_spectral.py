"""The transform's helpers against their definitions."""

import pytest
import torch

from mmca.ops.spectral import parseval_product, rfft2


@pytest.mark.parametrize('hw_shape', [(1, 1), (1, 2), (2, 1), (3, 5), (4, 6), (5, 4), (7, 1)])
def test_parseval_product(hw_shape):
    a = torch.randn(2, 3, *hw_shape, dtype=torch.float64)
    b = torch.randn(2, 4, *hw_shape, dtype=torch.float64)
    expected = torch.einsum('bihw,bjhw->ij', a, b)
    torch.testing.assert_close(parseval_product(rfft2(a), rfft2(b), hw_shape), expected)
