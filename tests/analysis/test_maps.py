"""Matrices against maps, kernels against circulant layers, entropies against known weights."""

import math

import pytest
import torch

from mmca.analysis import (
    AttentionInput,
    attention_inputs,
    attention_maps,
    attention_matrices,
    bccb_kernel,
    equivalent_kernels,
    normalized_entropy,
)
from mmca.backbones import CAPVT, PVT, CADeiT, CASwin, DeiT, Swin
from mmca.errors import InputError
from mmca.layers import Attention, SelfAttention, SpatialReductionAttention, WindowAttention
from mmca.ops import naive
from tests.tiny import DEIT
from tests.tiny import PVT as TINY_PVT
from tests.tiny import SWIN as TINY_SWIN


@pytest.mark.parametrize(
    ('cls', 'arch'),
    [(PVT, TINY_PVT), (CAPVT, TINY_PVT), (Swin, TINY_SWIN), (CASwin, TINY_SWIN), (DeiT, DEIT)],
)
def test_matrices_are_the_maps_of_all_patches(cls, arch):
    model = cls(arch).eval()
    inputs = attention_inputs(model, torch.randn(2, 3, 70, 96))
    attentions = [path for path, m in model.named_modules() if isinstance(m, Attention)]
    assert list(inputs) == attentions
    for seen in inputs.values():
        matrices = attention_matrices(seen)
        tokens = seen.grid[0] * seen.grid[1]
        assert matrices.shape[2:] == (tokens, tokens)
        torch.testing.assert_close(matrices.sum(-1), torch.ones(matrices.shape[:3]))
        for token in (0, tokens // 2, tokens - 1):
            expected = attention_maps(seen, token).flatten(2)
            torch.testing.assert_close(matrices[:, :, token], expected)
        assert 0 < normalized_entropy(matrices) <= 1 + 1e-6


@pytest.mark.parametrize('sr_ratio', [None, 1, 2, 8])
def test_matrices_of_a_layer_equal_the_base_class(sr_ratio):
    layer = SpatialReductionAttention(8, 2, sr_ratio) if sr_ratio else SelfAttention(8, 2)
    x = torch.randn(2, 35, 8)
    expected = Attention.attention_matrix(layer, x, (5, 7))
    torch.testing.assert_close(layer.attention_matrix(x, (5, 7)), expected)


def test_the_class_token_is_left_out():
    model = DeiT(DEIT, attn='SCSC', with_cls_token=True).eval()
    inputs = attention_inputs(model, torch.randn(1, 3, 48, 70))
    assert [seen.grid for seen in inputs.values()] == [(3, 5)] * 4
    seen = inputs['blocks.2.attn']
    q, k, _ = (t.unflatten(2, (2, 8)).transpose(1, 2) for t in seen.attn.qkv(seen.x).chunk(3, 2))
    weights = (q @ k.mT / 8**0.5)[..., 1:, 1:].softmax(-1)
    torch.testing.assert_close(attention_matrices(seen), weights)
    torch.testing.assert_close(attention_maps(seen, 4).flatten(2), weights[:, :, 4])


def test_kernels_belong_to_the_nearest_bccb_matrix():
    matrix = torch.rand(2, 15, 15, dtype=torch.float64)
    nearest = naive.nearest_bccb(matrix, (3, 5))
    torch.testing.assert_close(naive.bccb(bccb_kernel(matrix, (3, 5)), (3, 5)), nearest)
    for seen in attention_inputs(CADeiT(DEIT).eval(), torch.randn(1, 3, 48, 70)).values():
        matrices = seen.attn.attention_matrix(seen.x, seen.hw_shape)
        expected = bccb_kernel(matrices, seen.grid).unflatten(2, seen.grid)
        torch.testing.assert_close(equivalent_kernels(seen), expected)


def test_too_large_matrices_are_refused():
    grid = (100, 120)
    seen = AttentionInput(
        'blocks.0.attn', SelfAttention(8, 2), torch.zeros(1, 12000, 8), grid, grid
    )
    with pytest.raises(InputError, match=r'blocks\.0\.attn: the matrices of 2 heads and 12000'):
        attention_matrices(seen)


def test_entropy_of_known_weights():
    assert normalized_entropy(torch.full((3, 8), 1 / 8)) == pytest.approx(1)
    assert normalized_entropy(torch.eye(5)) == 0
    assert normalized_entropy(torch.ones(4, 1)) == 1
    half = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert normalized_entropy(half) == pytest.approx(math.log(2) / math.log(4))


def test_entropy_of_windows_and_masked_pairs():
    """On 2 x 2 shifted windows of 4 x 4, three in four windows are cut by the mask."""
    # Windows of 16, 8 + 8, 8 + 8 and 4 + 4 + 4 + 4 neighbors.
    cut = (math.log(16) + 2 * math.log(8) + math.log(4)) / 4
    for shift, expected in ((False, math.log(16)), (True, cut)):
        layer = WindowAttention(8, 2, 4, shift=shift)
        layer.qkv.weight.data.zero_()
        layer.relative_position_bias_table.data.zero_()
        found = normalized_entropy(layer.attention_matrix(torch.randn(1, 64, 8), (8, 8)))
        assert found == pytest.approx(expected / math.log(64))
