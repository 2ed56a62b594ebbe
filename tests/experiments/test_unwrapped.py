"""Attention without wrapping is softmax of the mean logits of every displacement."""

import pytest
import torch

from experiments.border import NAMES
from mmca.layers.attention import unregister_attention


@pytest.fixture(scope='module')
def unwrapped_attention():
    from experiments.unwrapped import unwrapped_attention

    yield unwrapped_attention
    for name in NAMES.values():
        unregister_attention(name)


@pytest.mark.parametrize('keys', [False, True])
def test_it_is_its_dense_form(keys, unwrapped_attention):
    torch.manual_seed(0)
    (height, width), dim, scale = (3, 5), 2, 0.05
    tokens = height * width
    q, k, v = torch.randn(3, 2, tokens, 2 * dim)
    b = torch.randn(2, 2, tokens) if keys else None
    y, x = torch.arange(tokens) // width, torch.arange(tokens) % width
    displacements = torch.stack([y - y[:, None], x - x[:, None]])
    split = [t.unflatten(2, (-1, dim)).transpose(1, 2) for t in (q - q.mean(1, True), k, v)]
    logits = split[0] @ split[1].mT
    means = torch.zeros_like(logits)
    for i, j in displacements.flatten(1).T.unique(dim=0):
        same = (displacements[0] == i) & (displacements[1] == j)
        means[..., same] = logits[..., same].mean(-1, keepdim=True)
    weights = (means * scale * tokens + (0 if b is None else b[:, :, None])).softmax(-1)
    expected = (weights @ split[2]).transpose(1, 2).flatten(2)
    found = unwrapped_attention(q, k, v, (height, width), dim, scale, b)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
