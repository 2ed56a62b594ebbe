"""Shares of matrices whose share is known, and those of DeiT-T with ImageNet weights."""

from pathlib import Path

import pytest
import torch

from mmca.analysis import (
    BlockShare,
    circulant_share,
    measure_blocks,
    recommend,
    shuffle_rows,
    stage_shares,
)
from mmca.backbones import DeiT, Swin
from mmca.checkpoint import load_pretrained
from mmca.ops import naive
from tests.tiny import DEIT, SWIN

SHARED = Path(__file__).parents[3] / 'shared'
GRID = (4, 7)
TOKENS = 28


def circulant(*shape):
    return naive.bccb(torch.randn(*shape, TOKENS, dtype=torch.float64).mul(3).softmax(-1), GRID)


def test_circulant_matrices_are_explained_in_full_and_uniform_ones_not_at_all():
    share, energy = circulant_share(circulant(2, 3), GRID)
    torch.testing.assert_close(share, torch.ones_like(share))
    assert share.shape == energy.shape == (2, 3)
    assert (energy > 0.1).all()
    for dtype in (torch.float32, torch.float64):
        uniform = torch.full((TOKENS, TOKENS), 1 / TOKENS, dtype=dtype)
        assert circulant_share(uniform, GRID)[0] == 0
        assert circulant_share(torch.zeros_like(uniform).softmax(-1), GRID)[0] == 0


def test_shuffled_rows_have_one_nth():
    matrix = circulant(4000)
    order = torch.rand(4000, TOKENS, TOKENS).argsort(-1)
    shuffled = matrix.gather(-1, order)
    torch.testing.assert_close(shuffle_rows(matrix[:2], order[0])[0], shuffled[0])
    share, energy = circulant_share(shuffled, GRID)
    assert share.mean() == pytest.approx(1 / TOKENS, rel=0.05)
    torch.testing.assert_close(energy, circulant_share(matrix, GRID)[1])


def test_a_mixture_has_the_share_of_its_circulant_part():
    part = circulant() - 1 / TOKENS
    noise = torch.randn(TOKENS, TOKENS, dtype=torch.float64)
    rest = noise - naive.nearest_bccb(noise, GRID)
    rest *= part.norm() / rest.norm()
    share, energy = circulant_share(1 / TOKENS + part + 3**0.5 * rest, GRID)
    assert share.item() == pytest.approx(0.25)
    assert energy.item() == pytest.approx(4 * part.square().sum().item())


def test_even_windows_have_the_share_that_the_help_names():
    row, column = torch.arange(28).repeat_interleave(28) // 7, torch.arange(28).repeat(28) // 7
    window = row * 4 + column
    matrix = (window[:, None] == window).double() / 49
    assert circulant_share(matrix, (28, 28))[0].item() == pytest.approx(0.42, abs=0.005)


def test_measured_blocks_are_the_means_over_heads_and_images():
    torch.manual_seed(0)
    model = DeiT(DEIT, with_cls_token=True).eval()
    for block in model.blocks:
        block.attn.qkv.weight.data.normal_(std=0.5)
    images = torch.randn(3, 3, 48, 70)
    together = measure_blocks(model, images)
    single = [measure_blocks(model, image[None]) for image in images]
    assert [b.path for b in together] == [f'blocks.{i}.attn' for i in range(4)]
    for i, block in enumerate(together):
        assert (block.stage, block.grid, len(block.explained_by_head)) == (i, (3, 5), 2)
        for name in ('explained', 'random', 'entropy', 'energy'):
            mean = sum(getattr(row[i], name) for row in single) / 3
            assert getattr(block, name) == pytest.approx(mean, rel=1e-5)
        assert sum(block.explained_by_head) / 2 == pytest.approx(block.explained)
        energies = [row[i].energy for row in single]
        parts = [row[i].explained_energy * row[i].energy for row in single]
        assert block.explained_energy == pytest.approx(sum(parts) / sum(energies), rel=1e-5)


def test_recommendations_are_made_by_stage():
    def block(stage, explained):
        return BlockShare('', stage, (1, 1), explained, [], 0.0, 0.0, 0.0, 1.0)

    blocks = [block(0, 0.2), block(0, 0.4), block(1, 0.25), block(2, 0.0)]
    assert stage_shares(blocks) == pytest.approx([0.3, 0.25, 0.0])
    assert recommend(blocks, 0.25) == 'CCS'
    assert recommend(blocks, 0.5) == 'SSS'
    measured = measure_blocks(Swin(SWIN).eval(), torch.randn(1, 3, 64, 64))
    assert [b.stage for b in measured] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.skipif(not SHARED.is_dir(), reason='needs the files beside the checkout')
def test_deit_tiny_is_circulant_in_its_early_blocks():
    """Figures of two implementations on ten images; others give a few hundredths more or less."""
    transfer = pytest.importorskip('mmca.distill.images')
    model = DeiT('tiny', with_cls_token=True).eval()
    load_pretrained(model, SHARED / 'weights/deit_tiny_imagenet.pth')
    files = transfer.find_images([str(SHARED / 'data/imagenet_samples')])[::100]
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    images = (
        (transfer.middle_view(transfer.read_image(file), 224).flip(0) - mean) / std
        for file in files
    )
    blocks = measure_blocks(model, images)
    expected = [0.51, 0.66, 0.67, 0.41, 0.27, 0.14, 0.10, 0.07, 0.01, 0.02, 0.01, 0.01]
    assert [b.explained for b in blocks] == pytest.approx(expected, abs=0.04)
    assert all(b.random == pytest.approx(1 / 196, rel=0.2) for b in blocks)
    assert recommend(blocks, 0.25) == 'CCCCCSSSSSSS'
    assert recommend(blocks, 0.6) == 'SCCSSSSSSSSS'
