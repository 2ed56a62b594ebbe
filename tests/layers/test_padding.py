"""Zero padding of maps."""

import pytest
import torch
import torch.nn.functional as F

from mmca.layers.padding import pad_to_minimum, pad_to_multiple


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_zeros_on_the_right_and_bottom_in_the_same_layout(layout):
    x = torch.randn(1, 3, 5, 8).contiguous(memory_format=layout)
    for padded, pads in (
        (pad_to_multiple(x, 7), (0, 6, 0, 2)),
        (pad_to_minimum(x, 7), (0, 0, 0, 2)),
    ):
        assert torch.equal(padded, F.pad(x, pads))
        assert padded.is_contiguous(memory_format=layout)
    assert pad_to_multiple(x, 1) is pad_to_minimum(x, 5) is x
