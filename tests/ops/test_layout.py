"""Tokens copied channels first, in pieces."""

from importlib import import_module

import pytest
import torch

from mmca.ops import channels_first


@pytest.mark.parametrize('piece', [1, 7, 2048])
@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 35, 3), (3, 7, 8), (1, 4100, 2)], ids=str)
def test_equals_a_copy_and_gives_gradients(shape, piece, monkeypatch):
    monkeypatch.setattr(import_module('mmca.ops.layout'), 'PIECE', piece)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = channels_first(x)
    assert out.is_contiguous()
    assert torch.equal(out, x.mT)
    weight = torch.randn_like(out)
    assert torch.equal(torch.autograd.grad(out, x, weight)[0], weight.mT)


def test_copies_nothing_that_lies_right():
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
