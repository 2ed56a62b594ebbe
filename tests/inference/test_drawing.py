"""Drawn results."""

import numpy as np
import pytest

from mmca.inference import Detections, Segmentation
from mmca.inference.drawing import ALPHA, SHADE, draw
from mmca.inference.masks import Masks

NAMES = ('dog', 'cat')
PALETTE = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
IMAGE = np.full((40, 60, 3), 100, np.uint8)


@pytest.fixture
def dog():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:30] = True
    boxes = np.array([[10, 10, 30, 30]], np.float32)
    return Detections(boxes, np.float32([0.4]), np.array([0]), NAMES, Masks.of([mask], mask.shape))


def test_threshold_applies_to_predictions_only(dog):
    assert (draw(IMAGE, dog, PALETTE, 0.5) == IMAGE).all()
    drawn = draw(IMAGE, dog, PALETTE, 0.4)
    assert drawn.shape == IMAGE.shape
    assert (drawn != IMAGE).any()
    both = draw(IMAGE, dog, PALETTE, 0.5, truth=dog)
    assert (both[:, :60] != IMAGE).any()
    assert (both[:, 60:] == IMAGE).all()
    boxes = Detections(dog.boxes, dog.scores, dog.labels, NAMES)
    assert (draw(IMAGE, boxes, PALETTE) != IMAGE).any()


def test_masks_are_blended_and_outlined():
    masks = np.zeros((4, 40, 60), bool)
    masks[0, 10:30, 10:30] = masks[1, 20:40, 25:60] = True  # overlap; at the border
    masks[2, 2:9, 40:50] = True
    masks[2, 4:7, 43:47] = False  # a hole; the last one is empty
    boxes, labels = np.zeros((4, 4), np.float32), np.array([0, 1, 1, 0])
    found = Detections(boxes, np.ones(4, np.float32), labels, NAMES, Masks.of(masks, (40, 60)))
    drawn = draw(IMAGE, found, PALETTE).astype(int)
    for index, (y, x) in enumerate([(20, 20), (30, 40)]):
        exact = (1 - ALPHA) * IMAGE[y, x] + ALPHA * PALETTE[index, ::-1]
        assert 0 < np.abs(drawn[y, x] - exact).max() <= ALPHA * SHADE + 1
    white = (drawn == 255).all(2)
    for y, x in [(10, 15), (29, 10), (20, 28), (39, 59), (2, 40), (3, 44)]:
        assert white[y, x]
    assert (drawn[5, 45] == IMAGE[5, 45]).all()
    assert (drawn[~masks.any(0)] == 100).all()
    assert (draw(IMAGE, found, PALETTE) == drawn).all()


def test_label_map():
    labels = np.full((40, 60), 255, np.uint8)
    labels[:20] = 1
    result = Segmentation(labels, NAMES, PALETTE)
    drawn = draw(IMAGE, result, PALETTE)
    assert (drawn[:20] == (177, 50, 50)).all()  # half blue, in BGR
    assert (drawn[20:40] == 100).all()  # no class
    swatches = drawn[40:].reshape(-1, 3)
    assert (swatches == (255, 0, 0)).all(1).any()
    assert not (swatches == (0, 0, 255)).all(1).any()  # no dog in it
    whole = draw(IMAGE, result, PALETTE, whole_legend=True)
    assert (whole[40:].reshape(-1, 3) == (0, 0, 255)).all(1).any()
    colors = np.zeros((9, 3), np.uint8)
    many = Segmentation(labels, ('a long name',) * 9, colors)
    assert draw(IMAGE, many, colors, whole_legend=True).shape == (40 + 9 * 20, 60, 3)
