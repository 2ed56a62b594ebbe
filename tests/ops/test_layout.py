"""Tokens and maps, and tokens copied channels first in chunks."""

import pytest
import torch

from mmca.errors import InputError
from mmca.ops import channels_first, layout
from mmca.ops.layout import check_tokens, to_maps, to_tokens


@pytest.mark.parametrize('chunk', [1, 7, 2048])
@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 35, 3), (3, 7, 8), (1, 4100, 2)], ids=str)
def test_equals_a_copy_and_gives_gradients(shape, chunk, monkeypatch):
    monkeypatch.setattr(layout, 'CHUNK', chunk)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = channels_first(x)
    assert out.is_contiguous()
    assert torch.equal(out, x.mT)
    weight = torch.randn_like(out)
    assert torch.equal(torch.autograd.grad(out, x, weight)[0], weight.mT)


def test_does_not_copy_what_is_channels_first():
    maps = torch.randn(2, 3, 35)
    assert channels_first(maps.mT).data_ptr() == maps.data_ptr()


def test_second_order_gradients_pass():
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(channels_first, x)


def test_every_dtype():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.randn(2, 35, 3).to(dtype)
        assert torch.equal(channels_first(x), x.mT)
        assert channels_first(x).dtype == dtype


def test_tokens_and_maps_share_memory():
    maps = torch.randn(2, 3, 5, 7)
    tokens = to_tokens(maps)
    assert tokens.shape == (2, 35, 3)
    assert tokens.data_ptr() == maps.data_ptr()
    assert torch.equal(tokens[1, 2 * 7 + 4], maps[1, :, 2, 4])
    assert torch.equal(to_maps(tokens, (5, 7)), maps)
    assert to_maps(tokens, (5, 7)).data_ptr() == maps.data_ptr()


@pytest.mark.parametrize(
    ('shape', 'hw_shape', 'message'),
    [
        ((2, 12, 8), (4, 4), r'hw_shape=\(4, 4\) has 16 tokens.*N=12'),
        ((2, 8, 3, 4), (3, 4), r'\(B, N, C\)'),
        ((2, 12, 6), (3, 4), r'C=8 channels, got \(2, 12, 6\)'),
    ],
)
def test_bad_tokens_are_named(shape, hw_shape, message):
    with pytest.raises(InputError, match=message):
        check_tokens(torch.zeros(shape), hw_shape, embed_dims=8)
