"""Zero padding of maps."""

import pytest
import torch
import torch.nn.functional as F

from mmca.layers.padding import pad_to_minimum, pad_to_multiple


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('batch', [1, 2])
def test_zeros_on_the_right_and_bottom_in_the_same_layout(batch, layout):
    x = torch.randn(batch, 3, 5, 8).contiguous(memory_format=layout)
    for padded, wanted in (
        (pad_to_multiple(x, 4), F.pad(x, (0, 0, 0, 3))),
        (pad_to_multiple(x, 7), F.pad(x, (0, 6, 0, 2))),
        (pad_to_minimum(x, 7), F.pad(x, (0, 0, 0, 2))),
        (pad_to_minimum(x, 9), F.pad(x, (0, 1, 0, 4))),
    ):
        assert torch.equal(padded, wanted)
        assert padded.is_contiguous(memory_format=layout)


def test_a_map_that_fits_is_not_copied():
    x = torch.randn(2, 3, 6, 4)
    assert pad_to_multiple(x, 2) is x
    assert pad_to_minimum(x, 4) is x
