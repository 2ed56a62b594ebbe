"""Drawing results."""

import numpy as np
import pytest

from mmca.inference import Detections, Segmentation
from mmca.inference.drawing import Painter

NAMES = ('dog', 'cat')
PALETTE = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
IMAGE = np.full((40, 60, 3), 100, np.uint8)


@pytest.fixture
def dog():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 10:30] = True
    boxes = np.array([[10, 10, 30, 30]], np.float32)
    return Detections(boxes, np.float32([0.4]), np.array([0]), NAMES, mask)


def test_the_threshold_is_for_predictions_alone(dog):
    assert (Painter(PALETTE, 0.5)(IMAGE, dog) == IMAGE).all()
    drawn = Painter(PALETTE, 0.4)(IMAGE, dog)
    assert drawn.shape == IMAGE.shape
    assert (drawn != IMAGE).any()
    both = Painter(PALETTE, 0.5)(IMAGE, dog, dog)
    assert (both[:, :60] != IMAGE).any()
    assert (both[:, 60:] == IMAGE).all()


def test_an_image_is_drawn_in_the_same_colors_again(dog):
    state = np.random.get_state()[1]
    paint = Painter(PALETTE)
    assert np.array_equal(paint(IMAGE, dog), paint(IMAGE, dog))
    assert np.array_equal(np.random.get_state()[1], state)


def test_random_numbers_go_on_after_an_error(dog):
    state = np.random.get_state()[1]
    with pytest.raises(Exception, match='palette'):
        Painter(PALETTE[:0])(IMAGE, dog)
    assert np.array_equal(np.random.get_state()[1], state)


def test_no_object_and_no_masks(dog):
    empty = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), NAMES
    )
    assert (Painter(PALETTE)(IMAGE, empty) == IMAGE).all()
    boxes = Detections(dog.boxes, dog.scores, dog.labels, NAMES)
    assert (Painter(PALETTE)(IMAGE, boxes) != IMAGE).any()


def test_a_label_map():
    labels = np.full((40, 60), 255, np.uint8)
    labels[:20] = 1
    drawn = Painter(PALETTE)(IMAGE, Segmentation(labels, NAMES, PALETTE))
    assert (drawn[:20] == (177, 50, 50)).all()  # half blue, in BGR
    assert (drawn[20:40] == 100).all()  # no class
    assert drawn.shape[0] > 40
    swatches = drawn[40:].reshape(-1, 3)
    assert (swatches == (255, 0, 0)).all(1).any()
    assert not (swatches == (0, 0, 255)).all(1).any()  # no dog in it
    whole = Painter(PALETTE)(IMAGE, Segmentation(labels, NAMES, PALETTE), whole_legend=True)
    assert (whole[40:].reshape(-1, 3) == (0, 0, 255)).all(1).any()
