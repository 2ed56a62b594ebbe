"""Tokens and maps."""

import pytest
import torch

from mmca.errors import InputError
from mmca.ops.layout import check_tokens, to_maps, to_tokens


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
