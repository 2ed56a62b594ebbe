"""Drawn results."""

import numpy as np
import pytest

from mmca.inference import Detections, Segmentation
from mmca.inference.drawing import draw

NAMES = ('dog', 'cat')
PALETTE = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
IMAGE = np.full((40, 60, 3), 100, np.uint8)


@pytest.fixture
def dog():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 10:30] = True
    boxes = np.array([[10, 10, 30, 30]], np.float32)
    return Detections(boxes, np.float32([0.4]), np.array([0]), NAMES, mask)


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


def test_drawings_are_reproducible_and_keep_the_random_state(dog):
    state = np.random.get_state()[1]
    assert np.array_equal(draw(IMAGE, dog, PALETTE), draw(IMAGE, dog, PALETTE))
    assert np.array_equal(np.random.get_state()[1], state)


def test_masks_look_as_mmdet_draws_them():
    mmdet = pytest.importorskip('mmdet.visualization')
    from mmca.inference.visualizer import ManyMasksVisualizer

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    masks = np.zeros((4, 40, 60), bool)
    masks[0, 10:30, 10:30] = masks[1, 20:40, 25:60] = True  # overlap; at the border
    masks[2] = rng.random((40, 60)) < 0.5  # and the last one is empty
    colors = [(255, 0, 0), (0, 0, 255), (9, 99, 199), (1, 2, 3)]
    drawn = []
    for visualizer in (mmdet.DetLocalVisualizer(), ManyMasksVisualizer()):
        visualizer.set_image(image)
        visualizer.draw_bboxes(np.array([[5, 5, 50, 35]]))
        visualizer.draw_binary_masks(masks, colors, 0.8)
        visualizer.draw_texts('dog', np.array([20, 20]))
        drawn.append(visualizer.get_image().astype(int))
    assert np.abs(drawn[0] - drawn[1]).max() <= 2  # rounding
    assert np.abs(drawn[0] - image).max() > 100


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
