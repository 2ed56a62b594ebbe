"""What attentions attend to: matrices against maps, kernels against the circulant layers."""

import pytest
import torch

from mmca.analysis import (
    attention_inputs,
    attention_maps,
    attention_matrices,
    bccb_kernel,
    equivalent_kernels,
)
from mmca.analysis import maps as maps_module
from mmca.backbones import PVT, CADeiT, DeiT, Swin
from mmca.errors import InputError
from mmca.layers import Attention, SelfAttention, SpatialReductionAttention
from mmca.ops import naive
from tests.tiny import DEIT
from tests.tiny import PVT as TINY_PVT
from tests.tiny import SWIN as TINY_SWIN


@pytest.mark.parametrize(
    ('cls', 'arch', 'count'), [(PVT, TINY_PVT, 5), (Swin, TINY_SWIN, 8), (DeiT, DEIT, 4)]
)
def test_matrices_are_the_maps_of_all_patches(cls, arch, count):
    model = cls(arch).eval()
    inputs = attention_inputs(model, torch.randn(2, 3, 70, 96))
    assert len(inputs) == count
    for seen in inputs.values():
        matrices = attention_matrices(seen)
        tokens = seen.grid[0] * seen.grid[1]
        assert matrices.shape[2:] == (tokens, tokens)
        torch.testing.assert_close(matrices.sum(-1), torch.ones(matrices.shape[:3]))
        for token in (0, tokens // 2, tokens - 1):
            expected = attention_maps(seen, token).flatten(2)
            torch.testing.assert_close(matrices[:, :, token], expected)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    'layer',
    [
        SelfAttention(8, 2),
        SpatialReductionAttention(8, 2, sr_ratio=1),
        SpatialReductionAttention(8, 2, sr_ratio=2),
        SpatialReductionAttention(8, 2, sr_ratio=8),
    ],
    ids=lambda layer: f'{type(layer).__name__}{getattr(layer, "sr_ratio", "")}',
)
def test_matrices_of_a_layer_are_those_of_the_base_class(layer):
    x = torch.randn(2, 35, 8)
    expected = Attention.attention_matrix(layer, x, (5, 7))
    torch.testing.assert_close(layer.attention_matrix(x, (5, 7)), expected)


def test_a_class_token_is_left_out():
    model = DeiT(DEIT, attn='SCSC', with_cls_token=True).eval()
    inputs = attention_inputs(model, torch.randn(1, 3, 48, 70))
    assert [seen.grid for seen in inputs.values()] == [(3, 5)] * 4
    seen = inputs['blocks.2.attn']
    q, k, _ = seen.attn._heads(seen.x)
    weights = (q @ k.mT / q.shape[-1] ** 0.5)[..., 1:, 1:].softmax(-1)
    torch.testing.assert_close(attention_matrices(seen), weights)
    torch.testing.assert_close(attention_maps(seen, 4).flatten(2), weights[:, :, 4])


def test_the_kernel_is_the_first_row_of_the_nearest_bccb_matrix():
    matrix = torch.rand(2, 15, 15, dtype=torch.float64)
    nearest = naive.nearest_bccb(matrix, (3, 5))
    torch.testing.assert_close(bccb_kernel(matrix, (3, 5)), nearest[:, 0])
    torch.testing.assert_close(naive.bccb(bccb_kernel(matrix, (3, 5)), (3, 5)), nearest)


def test_circulant_attention_has_its_own_kernels():
    model = CADeiT(DEIT).eval()
    for seen in attention_inputs(model, torch.randn(1, 3, 48, 70)).values():
        matrices = seen.attn.attention_matrix(seen.x, seen.hw_shape)
        expected = bccb_kernel(matrices, seen.grid).unflatten(2, seen.grid)
        torch.testing.assert_close(equivalent_kernels(seen), expected)


def test_too_large_matrices_are_refused(monkeypatch):
    inputs = attention_inputs(DeiT(DEIT).eval(), torch.randn(1, 3, 48, 70))
    monkeypatch.setattr(maps_module, 'MAX_NUMBERS', 449)
    with pytest.raises(InputError, match=r'blocks\.0\.attn: 2 heads on 15 tokens'):
        attention_matrices(inputs['blocks.0.attn'])
