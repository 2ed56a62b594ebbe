"""NormPool: the norm before the mean, on the last map."""

import torch
from mmengine.registry import MODELS


def test_is_the_mean_of_normalized_tokens():
    neck = MODELS.build(dict(type='mmca.NormPool', in_channels=8)).double()
    torch.nn.init.normal_(neck.norm.weight)
    torch.nn.init.normal_(neck.norm.bias)
    x = 1e-3 * torch.randn(2, 8, 5, 3, dtype=torch.float64)  # of a variance like epsilon
    (out,) = neck((torch.randn(2, 4, 9, 9, dtype=torch.float64), x))
    deviation = (x.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    tokens = (x - x.mean(1, keepdim=True)) / deviation
    expected = tokens.mean((2, 3)) * neck.norm.weight + neck.norm.bias
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
