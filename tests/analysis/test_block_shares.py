"""Shares of matrices whose share is known, and those of DeiT-T with ImageNet weights."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmca.analysis import explained_shares, measure_blocks
from mmca.analysis.block_shares import GAINS
from mmca.analysis.images import middle_views, spread
from mmca.backbones import DeiT, Swin
from mmca.checkpoint import load_pretrained
from mmca.ops import naive
from tests.tiny import DEIT, SWIN

SHARED = Path(__file__).parents[3] / 'shared'
GRID = (4, 7)
TOKENS = 28
ONE = GAINS.index(1)
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def keyed(kernel_gain, key_gain):
    """Attention whose logits are a kernel, a weight of each key, and a term of each query."""
    torch.manual_seed(0)
    kernel, keys, queries = torch.randn(3, 2, TOKENS, dtype=torch.float64).mul(2)
    logits = naive.bccb(kernel * kernel_gain, GRID) + (keys * key_gain)[:, None]
    return (logits + queries[..., None]).softmax(-1)


def test_known_shares():
    ones = torch.ones(2, dtype=torch.float64)
    both = explained_shares(keyed(1, 1), GRID)
    torch.testing.assert_close(both[:, ONE, ONE], ones)
    assert both[:, ONE, 0].max() < 0.9
    assert both[:, 0, ONE].max() < 0.9
    torch.testing.assert_close(explained_shares(keyed(1, 0), GRID)[:, ONE, 0], ones)
    torch.testing.assert_close(explained_shares(keyed(0, 1), GRID)[:, 0, ONE], ones)
    torch.testing.assert_close(both[:, 0, 0], 0 * ones)  # without gains M is uniform
    uniform = torch.full((1, TOKENS, TOKENS), 1 / TOKENS)
    assert explained_shares(uniform, GRID).abs().max() == 0


def test_shares_follow_their_definition():
    matrix = torch.randn(2, TOKENS, TOKENS, dtype=torch.float64).mul(2).softmax(-1)
    logits, found = matrix.log(), explained_shares(matrix, GRID)
    circulant, columns = naive.nearest_bccb(logits, GRID), logits.mean(1, keepdim=True)
    energy = (matrix - 1 / TOKENS).square().sum((1, 2))
    for i, kernel_gain in enumerate(GAINS):
        for j, key_gain in enumerate(GAINS):
            nearest = (kernel_gain * circulant + key_gain * columns).softmax(-1)
            expected = 1 - (matrix - nearest).square().sum((1, 2)) / energy
            torch.testing.assert_close(found[:, i, j], expected)


def test_windows_have_shares():
    """Outside of its window a weight is zero, and its logarithm is not finite."""
    row, column = torch.arange(28).repeat_interleave(28) // 7, torch.arange(28).repeat(28) // 7
    windows = ((row * 4 + column)[:, None] == row * 4 + column).float()[None] / 49
    assert 0.2 < explained_shares(windows, (28, 28)).max() < 0.42  # that of any circulant matrix


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
        entropy = sum(row[i].entropy for row in single) / 3
        assert block.entropy == pytest.approx(entropy, rel=1e-5)
        assert sum(block.both_by_head) / 2 == pytest.approx(block.both)
        assert len(block.gains) == 2
        assert max(block.circulant, block.columns) <= block.both
        for name in ('circulant', 'columns', 'both'):  # one pair of gains for all images
            separate = sum(getattr(row[i], name) for row in single) / 3
            assert 0 <= getattr(block, name) <= separate + 1e-9


def test_stages_of_a_pyramid():
    measured = measure_blocks(Swin(SWIN).eval(), torch.randn(1, 3, 64, 64))
    assert [b.stage for b in measured] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.skipif(not SHARED.is_dir(), reason='needs the files beside the checkout')
def test_deit_tiny_is_circulant_in_early_blocks_and_has_columns_in_late_ones():
    """Near the figures of another implementation on ten other images."""
    model = DeiT('tiny', with_cls_token=True).eval()
    load_pretrained(model, SHARED / 'weights/deit_tiny_imagenet.pth')
    files = spread([str(SHARED / 'data/imagenet_samples')], 10)
    cfg = Config(dict(model=dict(data_preprocessor=IMAGENET)))
    blocks = measure_blocks(model, middle_views(files, 224, cfg))
    expected = {
        'circulant': [0.46, 0.54, 0.61, 0.36, 0.23, 0.14, 0.10, 0.09, 0.02, 0.03, 0.01, 0.00],
        'both': [0.46, 0.55, 0.65, 0.47, 0.31, 0.47, 0.32, 0.26, 0.36, 0.46, 0.81, 0.93],
    }
    for name, shares in expected.items():
        assert [getattr(b, name) for b in blocks] == pytest.approx(shares, abs=0.1)
