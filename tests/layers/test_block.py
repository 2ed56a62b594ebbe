"""MLP, stochastic depth and the residual block."""

import pytest
import torch

from mmca.layers import Block, CirculantAttention, DropPath, Mlp


def test_block_equals_its_equations():
    block = Block(8, CirculantAttention(8), mlp_ratio=2, cpe=True).double()
    x = torch.randn(2, 15, 8, dtype=torch.float64)
    y = x + block.cpe(x.mT.reshape(2, 8, 3, 5)).reshape(2, 8, 15).mT
    y = y + block.attn(block.norm1(y), (3, 5))
    y = y + block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(y))))
    torch.testing.assert_close(block(x, (3, 5)), y)


def test_mlp_with_a_convolution_equals_its_equations():
    mlp, x = Mlp(6, 10, conv=True).double(), torch.randn(2, 15, 6, dtype=torch.float64)
    hidden = mlp.fc1(x).mT.reshape(2, 10, 3, 5)
    hidden = torch.nn.functional.conv2d(
        hidden, mlp.dwconv.dwconv.weight, mlp.dwconv.dwconv.bias, padding=1, groups=10
    )
    expected = mlp.fc2(torch.nn.functional.gelu(hidden.reshape(2, 10, 15).mT))
    torch.testing.assert_close(mlp(x, (3, 5)), expected)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    x = torch.ones(20000, 3)
    out = DropPath(0.3)(x)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (out == out[:, :1]).all()
    assert out.mean() == pytest.approx(1, abs=0.02)
    assert DropPath(0.3).eval()(x) is x
