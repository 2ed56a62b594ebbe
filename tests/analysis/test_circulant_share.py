"""Shares of matrices whose share is known, and those of DeiT-T with ImageNet weights."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmca.analysis import BlockShare, circulant_share, measure_blocks, recommend, stage_shares
from mmca.analysis.images import middle_views, spread
from mmca.backbones import DeiT, Swin
from mmca.checkpoint import load_pretrained
from mmca.ops import naive
from tests.tiny import DEIT, SWIN

SHARED = Path(__file__).parents[3] / 'shared'
GRID = (4, 7)
TOKENS = 28
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def circulant(*shape):
    return naive.bccb(torch.randn(*shape, TOKENS, dtype=torch.float64).mul(3).softmax(-1), GRID)


def test_known_shares():
    share = circulant_share(circulant(2, 3), GRID)
    torch.testing.assert_close(share, torch.ones(2, 3, dtype=torch.float64))
    for dtype in (torch.float32, torch.float64):
        uniform = torch.full((TOKENS, TOKENS), 1 / TOKENS, dtype=dtype)
        assert circulant_share(uniform, GRID) == 0
    part = circulant() - 1 / TOKENS
    noise = torch.randn(TOKENS, TOKENS, dtype=torch.float64)
    rest = noise - naive.nearest_bccb(noise, GRID)
    rest *= part.norm() / rest.norm()
    mixture = 1 / TOKENS + part + 3**0.5 * rest
    assert circulant_share(mixture, GRID).item() == pytest.approx(0.25)
    row, column = torch.arange(28).repeat_interleave(28) // 7, torch.arange(28).repeat(28) // 7
    windows = ((row * 4 + column)[:, None] == row * 4 + column).double() / 49
    assert circulant_share(windows, (28, 28)).item() == pytest.approx(0.42, abs=0.005)  # the help
    shuffled = circulant(4000).gather(-1, torch.rand(4000, TOKENS, TOKENS).argsort(-1))
    assert circulant_share(shuffled, GRID).mean() == pytest.approx(1 / TOKENS, rel=0.05)


def test_blocks_are_means_over_heads_and_images():
    torch.manual_seed(0)
    model = DeiT(DEIT, with_cls_token=True).eval()
    for block in model.blocks:
        block.attn.qkv.weight.data.normal_(std=0.5)
    images = torch.randn(3, 3, 48, 70)
    together = measure_blocks(model, images)
    single = [measure_blocks(model, image[None]) for image in images]
    for i, block in enumerate(together):
        assert (block.path, block.stage, block.grid) == (f'blocks.{i}', i, (3, 5))
        assert block.random == 1 / 15
        for name in ('explained', 'entropy'):
            mean = sum(getattr(row[i], name) for row in single) / 3
            assert getattr(block, name) == pytest.approx(mean, rel=1e-5)
        assert sum(block.explained_by_head) / 2 == pytest.approx(block.explained)


def test_recommendations_are_by_stage():
    shares = ((0, 0.2), (0, 0.4), (1, 0.25), (2, 0.0))
    blocks = [BlockShare('', stage, (1, 1), share, [], 0.0, 0.0) for stage, share in shares]
    assert stage_shares(blocks) == pytest.approx([0.3, 0.25, 0.0])
    assert recommend(blocks, 0.25) == 'CCS'
    assert recommend(blocks, 0.5) == 'SSS'
    measured = measure_blocks(Swin(SWIN).eval(), torch.randn(1, 3, 64, 64))
    assert [b.stage for b in measured] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.skipif(not SHARED.is_dir(), reason='needs the files beside the checkout')
def test_deit_tiny_is_circulant_in_its_early_blocks():
    """Figures of two implementations on ten images; others give a few hundredths more or less."""
    model = DeiT('tiny', with_cls_token=True).eval()
    load_pretrained(model, SHARED / 'weights/deit_tiny_imagenet.pth')
    files = spread([str(SHARED / 'data/imagenet_samples')], 10)
    cfg = Config(dict(model=dict(data_preprocessor=IMAGENET)))
    blocks = measure_blocks(model, middle_views(files, 224, cfg))
    expected = [0.51, 0.66, 0.67, 0.41, 0.27, 0.14, 0.10, 0.07, 0.01, 0.02, 0.01, 0.01]
    assert [b.explained for b in blocks] == pytest.approx(expected, abs=0.04)
    assert recommend(blocks, 0.25) == 'CCCCCSSSSSSS'
    assert recommend(blocks, 0.6) == 'SCCSSSSSSSSS'
