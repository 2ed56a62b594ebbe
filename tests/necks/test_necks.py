"""The necks: sizes, values, gradients, bad arguments."""

import pytest
import torch
import torch.nn.functional as F

from mmca.errors import InputError
from mmca.necks import SimpleFeaturePyramid
from mmca.registry import MODELS


@pytest.mark.parametrize('size', [(1, 1), (1, 6), (3, 3), (7, 9), (13, 21)])
@pytest.mark.parametrize('num_outs', [4, 5, 6])
@pytest.mark.parametrize('start_level', [0, 1, 3])
def test_levels(size, num_outs, start_level):
    neck = MODELS.build(
        {
            'type': 'mmca.SimpleFeaturePyramid',
            'in_channels': 16,
            'out_channels': 8,
            'num_outs': num_outs,
            'start_level': start_level,
        }
    )
    outs = neck((torch.randn(2, 16, *size),))
    expected = [(4 * size[0], 4 * size[1]), (2 * size[0], 2 * size[1]), size]
    while len(expected) < start_level + num_outs:
        expected.append(tuple(-(-side // 2) for side in expected[-1]))
    assert [tuple(out.shape) for out in outs] == [
        (2, 8, *sides) for sides in expected[start_level:]
    ]
    assert all(out.isfinite().all() for out in outs)
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert [name for name, p in neck.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_level_is_its_formula_written_out():
    neck, x = SimpleFeaturePyramid(8, 6), torch.randn(2, 8, 4, 5)
    outs = neck((x,))
    enlarged = F.interpolate(x, size=(16, 20), mode='bilinear')
    for i, resampled in ((0, enlarged), (2, x)):
        out = F.conv2d(resampled, neck.lateral_convs[i].weight, neck.lateral_convs[i].bias)
        out = F.conv2d(out, neck.fpn_convs[i].weight, neck.fpn_convs[i].bias, padding=1)
        torch.testing.assert_close(outs[i], out)
    out = F.max_pool2d(neck.lateral_convs[3](x), 2, ceil_mode=True)
    out = neck.fpn_convs[3](out)
    torch.testing.assert_close(outs[3], out)
    torch.testing.assert_close(outs[4], out[:, :, ::2, ::2])


@pytest.mark.parametrize('arguments', [{'num_outs': 0}, {'start_level': 4}, {'start_level': -1}])
def test_bad_arguments_are_named(arguments):
    (value,) = arguments.values()
    with pytest.raises(InputError, match=f'got {value}'):
        SimpleFeaturePyramid(8, **arguments)
    with pytest.raises(InputError, match='got 2'):
        SimpleFeaturePyramid(8)((torch.zeros(1, 8, 2, 2),) * 2)


def test_norm_pool_is_the_mean_of_normalized_tokens():
    neck = MODELS.build(dict(type='mmca.NormPool', in_channels=8)).double()
    torch.nn.init.normal_(neck.norm.weight)
    torch.nn.init.normal_(neck.norm.bias)
    x = 1e-3 * torch.randn(2, 8, 5, 3, dtype=torch.float64)  # of a variance like epsilon
    (out,) = neck((torch.randn(2, 4, 9, 9, dtype=torch.float64), x))
    deviation = (x.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    tokens = (x - x.mean(1, keepdim=True)) / deviation
    expected = tokens.mean((2, 3)) * neck.norm.weight + neck.norm.bias
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
