"""Matrices against maps, kernels against circulant layers, entropies against known weights."""

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
from mmca.backbones import CAPVT, PVT, CADeiT, CASwin, CSwin, DeiT, FLattenCSwin, Swin
from mmca.errors import InputError
from mmca.layers import Attention, SelfAttention
from mmca.ops import naive
from tests.tiny import CSWIN, DEIT
from tests.tiny import PVT as TINY_PVT
from tests.tiny import SWIN as TINY_SWIN


@pytest.mark.parametrize(
    ('cls', 'arch'),
    [(PVT, TINY_PVT), (CAPVT, TINY_PVT), (Swin, TINY_SWIN), (CASwin, TINY_SWIN), (DeiT, DEIT)]
    + [(CSwin, CSWIN), (FLattenCSwin, CSWIN)],
)
def test_matrices_are_the_maps_of_all_patches(cls, arch):
    model = cls(arch).eval()
    inputs = attention_inputs(model, torch.randn(2, 3, 70, 96))
    assert list(inputs) == [p for p, m in model.named_modules() if isinstance(m, Attention)]
    for seen in inputs.values():
        matrices = attention_matrices(seen)
        tokens = seen.grid[0] * seen.grid[1]
        assert matrices.shape[2:] == (tokens, tokens)
        assert type(model.get_submodule(seen.block).norm1) is torch.nn.LayerNorm
        torch.testing.assert_close(matrices.sum(-1), torch.ones(matrices.shape[:3]))
        for token in (0, tokens // 2, tokens - 1):
            expected = attention_maps(seen, token).flatten(2)
            torch.testing.assert_close(matrices[:, :, token], expected)


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
        matrices = seen.attn.attention_matrix(seen.x, seen.grid)
        expected = bccb_kernel(matrices, seen.grid).unflatten(2, seen.grid)
        torch.testing.assert_close(equivalent_kernels(seen), expected)


def test_too_large_matrices_are_refused():
    x, grid = torch.zeros(1, 12000, 8), (100, 120)
    seen = AttentionInput('blocks.0.attn', SelfAttention(8, 2), x, grid)
    with pytest.raises(InputError, match=r'blocks\.0\.attn: the matrices of 2 heads and 12000'):
        attention_matrices(seen)


def test_entropy_of_known_weights():
    assert normalized_entropy(torch.full((3, 8), 1 / 8)) == pytest.approx(1)
    assert normalized_entropy(torch.eye(5)) == 0
    assert normalized_entropy(torch.ones(4, 1)) == 1
