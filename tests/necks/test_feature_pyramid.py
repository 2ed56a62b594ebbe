"""The simple feature pyramid: sizes, values, gradients, refusals."""

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
    level = neck.levels[3]
    out = F.conv2d(F.max_pool2d(x, 2, ceil_mode=True), level.conv1.weight)
    out = F.layer_norm(out.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)
    out = F.conv2d(out, level.conv2.weight, padding=1)
    out = F.layer_norm(out.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(neck((x,))[3], out)
    torch.testing.assert_close(neck((x,))[4], out[:, :, ::2, ::2])


def test_up_is_in_place():
    """A single bright position of the map brightens its own 4 x 4 cells and their neighbors."""
    neck = SimpleFeaturePyramid(8, 4).eval()
    x = torch.zeros(1, 8, 5, 5)
    with torch.no_grad():
        rest = neck((x,))[0]
        x[0, :, 1, 3] = torch.randn(8)
        moved = (neck((x,))[0] - rest).abs().sum(1)[0] > 1e-6
    inside = torch.zeros(20, 20, dtype=torch.bool)
    inside[3:9, 11:17] = True  # 4 x 4 cells and one around, from the 3 x 3 convolution
    assert moved.any()
    assert not (moved & ~inside).any()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'in_channels': 6}, 'got 6'),
        ({'in_channels': 8, 'num_outs': 0}, 'got 0'),
        ({'in_channels': 8, 'start_level': 4}, 'got 4'),
        ({'in_channels': 8, 'start_level': -1}, 'got -1'),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        SimpleFeaturePyramid(**arguments)


def test_one_map_only():
    with pytest.raises(InputError, match='got 2'):
        SimpleFeaturePyramid(8)((torch.zeros(1, 8, 2, 2),) * 2)
