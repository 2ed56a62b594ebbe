"""The path from softmax to other attention, against every replacement by brute force."""

from itertools import pairwise

import pytest
import torch

from mmca.analysis import mixtures
from mmca.analysis.mixtures import replacement_letters, search_mixtures
from mmca.analysis.trained_backbone import converted_backbone
from mmca.backbones import DeiT
from mmca.layers import KeyedCirculantAttention, register_attention
from mmca.layers.attention import unregister_attention
from tests.tiny import DEIT

SETTINGS = {'type': 'mmca.DeiT', 'arch': DEIT}
MACS = {'C': [6, 6, 9, 12], 'K': [8, 5, 9, 9], 'S': [9, 9, 9, 10]}


@pytest.fixture
def job(tmp_path):
    torch.manual_seed(0)
    teacher = DeiT(DEIT)
    for block in teacher.blocks:
        block.attn.qkv.weight.data.normal_(std=0.5)
    torch.save({'model': teacher.state_dict()}, tmp_path / 'weights.pth')
    return SETTINGS, str(tmp_path / 'weights.pth'), list(torch.randn(2, 3, 48, 70))


@torch.no_grad()
def error(job, attn):
    settings, file, images = job
    softmax, mixed = (converted_backbone({**settings, 'attn': a}, file) for a in ('SSSS', attn))
    pairs = [(mixed(image[None])[0], softmax(image[None])[0]) for image in images]
    return sum(((a - b).norm() / b.norm()).item() for a, b in pairs) / len(images)


@pytest.mark.parametrize('tried', [1, 9])
def test_every_step_is_the_cheapest_that_was_measured(job, tried, monkeypatch):
    monkeypatch.setattr(mixtures, 'TRIED', tried)
    path = search_mixtures(*job, MACS, 100)
    assert (path[0].attn, path[0].error, path[0].macs) == ('SSSS', 0, 100)
    assert len(path) == 4
    assert path[-1].attn[2] == 'S'  # where nothing is saved
    assert path[-1].attn[3] == 'K'  # where circulant attention costs more
    for step, (before, after) in enumerate(pairwise(path)):
        assert after.macs == 100 - sum(
            MACS['S'][i] - MACS[letter][i] for i, letter in enumerate(after.attn)
        )
        assert after.error == pytest.approx(error(job, after.attn), rel=1e-4)
        if tried > 1 or step == 0:
            prices = {}
            for stage, letter in ((0, 'C'), (0, 'K'), (1, 'C'), (1, 'K'), (3, 'K')):
                if before.attn[stage] == 'S':
                    attn = before.attn[:stage] + letter + before.attn[stage + 1 :]
                    saved = MACS['S'][stage] - MACS[letter][stage]
                    prices[attn] = (error(job, attn) - before.error) / saved
            assert after.attn == min(prices, key=prices.get)


def test_attentions_that_say_so_replace_softmax():
    assert replacement_letters(SETTINGS) == ['C', 'K', 'X']
    assert replacement_letters({**SETTINGS, 'with_cls_token': True}) == ['K', 'X']

    @register_attention('other_example', letter='O')
    class Other(KeyedCirculantAttention):
        pass

    try:
        assert replacement_letters(SETTINGS) == ['C', 'K', 'X', 'O']
    finally:
        unregister_attention('other_example')
