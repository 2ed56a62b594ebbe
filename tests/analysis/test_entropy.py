"""Entropies of attention weights against weights written out."""

import math

import pytest
import torch

from mmca.analysis import attention_inputs, attention_matrices, normalized_entropy
from mmca.backbones import CAPVT, CASwin, DeiT
from mmca.layers import CirculantAttention, SelfAttention, WindowAttention
from mmca.ops import circulant_kernel, naive
from tests.tiny import DEIT, PVT, SWIN


def test_entropy_of_known_weights():
    assert normalized_entropy(torch.full((3, 8), 1 / 8)) == pytest.approx(1)
    assert normalized_entropy(torch.eye(5)) == 0
    assert normalized_entropy(torch.ones(4, 1)) == 1
    half = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert normalized_entropy(half) == pytest.approx(math.log(2) / math.log(4))


def test_the_kernel_is_the_first_row_of_the_attention():
    """Attending over one-hot values reads the N x N weights; all rows are the kernel, shifted."""
    q, k = torch.randn(2, 1, 15, 8, dtype=torch.float64).unbind()
    kernel = circulant_kernel(q, k, (3, 5), head_dim=4)
    matrix = naive.bccb(kernel.flatten(2), (3, 5))
    v = torch.randn(1, 15, 8, dtype=torch.float64)
    out = naive.circulant_attention(q, k, v, (3, 5), head_dim=4)
    by_matrix = matrix @ v.unflatten(2, (2, 4)).transpose(1, 2)
    torch.testing.assert_close(by_matrix.transpose(1, 2).flatten(2), out)


def test_self_attention_by_hand():
    layer, x = SelfAttention(8, 2), torch.randn(2, 12, 8)
    q, k, _ = layer.qkv(x).chunk(3, dim=2)
    q, k = (t.unflatten(2, (2, 4)).transpose(1, 2) for t in (q * 9, k * 9))
    layer.qkv.weight.data *= 9
    layer.qkv.bias.data *= 9
    weights = (q @ k.mT / 2).softmax(-1)
    assert normalized_entropy(layer.attention_matrix(x, (3, 4))) == pytest.approx(
        normalized_entropy(weights), rel=1e-4
    )


def test_windows_and_masked_pairs():
    """On 2 x 2 shifted windows of 4 x 4, three in four windows are cut by the mask."""
    plain, shifted = WindowAttention(8, 2, 4), WindowAttention(8, 2, 4, shift=True)
    for layer in (plain, shifted):
        layer.qkv.weight.data.zero_()
        layer.relative_position_bias_table.data.zero_()
    x = torch.randn(1, 64, 8)
    found = normalized_entropy(plain.attention_matrix(x, (8, 8)))
    assert found == pytest.approx(math.log(16) / math.log(64))
    # Windows of 16, 8 + 8, 8 + 8 and 4 + 4 + 4 + 4 neighbors.
    expected = (math.log(16) + 2 * math.log(8) + math.log(4)) / 4 / math.log(64)
    found = normalized_entropy(shifted.attention_matrix(x, (8, 8)))
    assert found == pytest.approx(expected)


def test_circulant_layer_gets_sharper_with_its_scale():
    x, entropies = torch.randn(1, 35, 6), []
    for scale in (0.0, 0.3, 3.0):
        torch.manual_seed(0)
        layer = CirculantAttention(6, scale=scale)
        entropies.append(normalized_entropy(layer.attention_matrix(x, (5, 7))))
    assert entropies[0] == pytest.approx(1)
    assert entropies[0] > entropies[1] > entropies[2]


def test_every_layer_of_a_backbone():
    for model, count in ((CAPVT(PVT), 5), (CASwin(SWIN), 8), (DeiT(DEIT), 4)):
        seen = attention_inputs(model.eval(), torch.randn(1, 3, 64, 96))
        assert len(seen) == count
        for path, found in seen.items():
            assert path.endswith('attn')
            assert 0 < normalized_entropy(attention_matrices(found)) <= 1 + 1e-6
