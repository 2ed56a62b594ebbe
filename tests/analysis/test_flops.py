"""Multiply-adds by hand, and the published figures."""

import math

import pytest
import torch
from torch import nn

from mmca.analysis import count_flops
from mmca.backbones import CAPVT, CASwin, CSwin, FLattenCSwin
from mmca.layers import CirculantAttention, SpatialReductionAttention


def test_by_hand():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    assert count_flops(conv, torch.zeros(2, 3, 10, 20)).macs == 2 * 200 * 27 * 8
    tokens, dims, reduced = 64, 16, 16
    softmax = SpatialReductionAttention(dims, 2, 2)
    expected = tokens * dims * dims * 2 + reduced * dims * dims * (4 + 2)
    expected += 2 * tokens * reduced * dims  # Q K^T and A V
    assert count_flops(softmax.eval(), torch.zeros(1, tokens, dims), (8, 8)).macs == expected
    circulant = CirculantAttention(dims, head_dim=4)
    report = count_flops(circulant, torch.zeros(3, tokens, dims), (8, 8))
    per_head = tokens * math.log2(tokens) * 18 + 4 * tokens * 4
    assert report.dft == 3 * 4 * per_head
    assert report.macs == 3 * 5 * tokens * dims * dims + report.dft
    assert report.params == 5 * dims * dims + 2 * dims


@pytest.mark.parametrize(
    ('cls', 'published'),
    [
        (CAPVT, {'t': 2.0, 's': 4.0, 'm': 6.8, 'l': 10.1}),
        (CASwin, {'t': 4.6, 's': 8.8, 'b': 15.7}),
        (CSwin, {'t': 4.3, 's': 6.9, 'b': 15.0}),
        (FLattenCSwin, {'t': 4.3, 's': 6.9, 'b': 15.0}),
    ],
)
def test_published_at_224(cls, published):
    with torch.device('meta'):
        image = torch.zeros(1, 3, 224, 224)
        found = {arch: count_flops(cls(arch).eval(), image).macs / 1e9 for arch in published}
    assert found == pytest.approx(published, rel=0.03)
