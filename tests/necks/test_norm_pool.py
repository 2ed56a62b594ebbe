"""NormPool: the norm before the mean, on the last map."""

import pytest
import torch
from mmengine.registry import MODELS

from mmca.necks import NormPool


@pytest.mark.parametrize('shape', [(2, 8, 5, 3), (1, 8, 1, 7), (3, 8, 1, 1)])
def test_is_the_mean_of_normalised_tokens(shape):
    torch.manual_seed(0)
    neck = NormPool(8).double()
    torch.nn.init.normal_(neck.norm.weight)
    torch.nn.init.normal_(neck.norm.bias)
    x = torch.randn(shape, dtype=torch.float64)
    (out,) = neck((torch.randn(2, 4, 9, 9, dtype=torch.float64), x))

    expected = torch.zeros(shape[:2], dtype=torch.float64)
    for i in range(shape[2]):
        for j in range(shape[3]):
            token = x[:, :, i, j]
            centred = token - token.mean(1, keepdim=True)
            deviation = (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
            expected += centred / deviation * neck.norm.weight + neck.norm.bias
    torch.testing.assert_close(out, expected / (shape[2] * shape[3]), rtol=1e-12, atol=1e-12)


def test_epsilon_is_that_of_the_family():
    x = torch.full((1, 2, 1, 1), 1e-3)
    x[:, 1] = -1e-3  # of variance 1e-6: halved by an epsilon as large
    (out,) = NormPool(2)((x,))
    assert out[0, 0].item() == pytest.approx(0.5**0.5, rel=1e-5)


def test_configs_find_it_by_name():
    neck = MODELS.build(dict(type='mmca.NormPool', in_channels=6))
    assert [(name, p.shape) for name, p in neck.named_parameters()] == [
        ('norm.weight', (6,)),
        ('norm.bias', (6,)),
    ]
