"""Cropped masks are those of the whole image, and so is what is written of them."""

import numpy as np
import pytest
from pycocotools import mask as rle

from mmca.inference.masks import Masks, run_lengths, unite

SHAPES = [(1, 1), (1, 7), (7, 1), (6, 9), (40, 31)]


def samples(shape):
    """Masks of all kinds: noise, empty, full, the borders, one pixel."""
    rng = np.random.default_rng(0)
    masks = np.zeros((8, *shape), bool)
    masks[0], masks[1] = rng.random((2, *shape)) < [[[0.5]], [[0.05]]]
    masks[2] = masks[4, 0] = masks[5, -1] = masks[6, :, -1] = masks[7, 0, 0] = True
    return masks


@pytest.mark.parametrize('shape', SHAPES)
def test_they_are_an_array(shape):
    expected = samples(shape)
    masks = Masks.of(expected, shape)
    assert masks.shape == expected.shape
    assert len(masks) == 8
    assert np.asarray(masks).dtype == masks[0].dtype == bool
    np.testing.assert_array_equal(masks, expected)
    for mask, (x1, y1, x2, y2), whole in zip(masks, masks.boxes, expected, strict=True):
        np.testing.assert_array_equal(mask, whole)
        y, x = whole.nonzero()
        if len(y):
            assert (x1, y1, x2, y2) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        else:
            assert (x1, y1, x2, y2) == (0, 0, 0, 0)
    nothing = Masks.of([], shape)
    assert np.asarray(nothing).shape == (0, *shape)
    assert nothing.boxes.shape == (0, 4)


@pytest.mark.parametrize('shape', SHAPES)
def test_run_lengths_are_those_of_pycocotools(shape):
    masks = samples(shape)
    for part, mask in zip(Masks.of(masks, shape).parts, masks, strict=True):
        expected = rle.encode(np.asfortranarray(mask, np.uint8))
        assert run_lengths(part, shape) == {**expected, 'counts': expected['counts'].decode()}


def test_a_union():
    one, other = (mask for mask in samples((6, 9))[:2])
    parts = Masks.of([one, other], (6, 9)).parts
    whole = np.zeros((10, 20), bool)
    whole[2:8, 3:12] = one
    whole[4:10, 11:20] |= other
    united = unite([parts[0].shift(2, 3), parts[1].shift(4, 11)])
    np.testing.assert_array_equal(Masks([united], (10, 20))[0], whole)


def test_memory_is_that_of_the_boxes():
    mask = np.zeros((2000, 3000), bool)
    mask[10:20, 30:50] = True
    (part,) = Masks.of([mask], mask.shape).parts
    assert part.values.nbytes == 200
    assert part.values.base is None
