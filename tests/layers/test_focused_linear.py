"""The focused linear attention layer: positions, rank restoration, bad arguments."""

import pytest
import torch
import torch.nn.functional as F

from mmca.layers import FocusedLinearAttention
from mmca.ops import naive


def randomised(layer):
    """A layer none of whose parameters is at its neutral initial value."""
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return layer.double()


@pytest.mark.parametrize('hw_shape', [(1, 1), (1, 9), (5, 7), (4, 4), (11, 3)])
@pytest.mark.parametrize('split', [True, False])
def test_is_its_formula_written_out(hw_shape, split):
    layer = randomised(FocusedLinearAttention(12, 3, grid_size=4, split_qkv=split))
    x = torch.randn(2, hw_shape[0] * hw_shape[1], 12, dtype=torch.float64)
    if split:
        q, k, v = layer.q(x), *layer.kv(x).split(12, dim=2)
    else:
        q, k, v = layer.qkv(x).split(12, dim=2)
    grid = layer.positional_encoding.reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    position = F.interpolate(grid, hw_shape, mode='bilinear').flatten(2).transpose(1, 2)
    scale = F.softplus(layer.scale)
    out = naive.focused_linear_attention(q, k + position, v, scale, 3)
    maps = v.transpose(1, 2).reshape(2, 12, *hw_shape)
    weight, bias = layer.dwc.weight.repeat(3, 1, 1, 1), layer.dwc.bias.repeat(3)
    local = F.conv2d(maps, weight, bias, padding=2, groups=12)
    expected = layer.proj(out + local.flatten(2).transpose(1, 2))
    torch.testing.assert_close(layer(x, hw_shape), expected)
