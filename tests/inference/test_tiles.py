"""Tiles of a large image hold the image's objects."""

import cv2
import numpy as np
import pytest

from mmca.errors import InputError
from mmca.inference import Detections, Predictor
from mmca.inference.masks import Masks
from mmca.inference.tiles import merge_tiles, tile_corners
from tests.inference.trained import SLIDE, noise

NAMES = ('square',)


def detections(*objects, shape=(100, 100)):
    """Objects (x1, y1, x2, y2, score, label), with the whole box as mask."""
    rows = np.array(objects, np.float32).reshape(-1, 6)
    masks = np.zeros((len(rows), *shape), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, rows[:, :4].round().astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    masks = Masks.of(masks, shape)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), NAMES, masks)


def find_squares(image):
    """A perfect detector of white rectangles: a box for what is visible of each."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(image)
    objects = [(x, y, x + w, y + h, 0.5 + w / 1000, 0) for x, y, w, h, _ in stats[1:]]
    return detections(*objects, shape=image.shape)


def photograph(seed, large=False):
    """Rectangles that do not touch each other or the border, in 100 x 100 pixels."""
    rng = np.random.default_rng(seed)
    image = np.zeros((100, 100), np.uint8)
    if large:
        for x in (2, 52):
            width, height = rng.integers(8, 46), rng.integers(60, 96)
            y = rng.integers(2, 99 - height)
            image[y : y + height, x : x + width] = 255
        return image if rng.integers(2) else image.T
    for y in (2, 52):
        for x in (2, 52):
            side = rng.integers(6, 14)
            dy, dx = rng.integers(0, 46 - side, 2)
            image[y + dy : y + dy + side, x + dx : x + dx + side] = 255
    return image


@pytest.mark.parametrize('overlap', [0.0, 0.2, 0.35, 0.9])
@pytest.mark.parametrize('shape', [(100, 100), (400, 400), (101, 333), (40, 250), (7, 7)])
def test_tiles_of_one_size_cover_the_image(shape, overlap):
    seen = np.zeros(shape, int)
    for y, x in tile_corners(shape, 100, overlap):
        tile = seen[y : y + 100, x : x + 100]
        assert tile.shape == tuple(min(size, 100) for size in shape)
        tile += 1
    assert seen.min() == 1


@pytest.mark.parametrize('large', [False, True], ids=['small', 'large'])
@pytest.mark.parametrize('overlap', [0.0, 0.2, 0.35, 0.5])
def test_a_mosaic_holds_the_objects_of_its_photographs(overlap, large):
    photographs = [[photograph(4 * row + column, large) for column in range(4)] for row in range(4)]
    mosaic = np.block(photographs)
    corners = tile_corners(mosaic.shape, 100, overlap)
    parts = [find_squares(mosaic[y : y + 100, x : x + 100]) for y, x in corners]
    found = merge_tiles(parts, corners, mosaic.shape, 100)
    expected = find_squares(mosaic)
    assert len(expected.boxes) == (32 if large else 64)
    assert sorted(found.boxes.tolist()) == sorted(expected.boxes.tolist())
    for box, mask in zip(found.boxes.astype(int), found.masks, strict=True):
        assert mask[box[1] : box[3], box[0] : box[2]].all()
        assert mask.sum() == (box[3] - box[1]) * (box[2] - box[0])
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize(
    ('left', 'right', 'boxes'),
    [
        # The right tile begins at x = 80. Complete in both: the better one remains.
        ([(84, 10, 96, 22, 0.6, 0)], [(5, 10, 16, 22, 0.7, 0)], [(85, 10, 96, 22)]),
        # Complete in one: the piece goes, whatever its score.
        ([(70, 10, 96, 22, 0.7, 0)], [(0, 10, 16, 22, 0.6, 0)], [(70, 10, 96, 22)]),
        ([(70, 10, 96, 22, 0.6, 0)], [(0, 10, 16, 22, 0.7, 0)], [(70, 10, 96, 22)]),
        # A small object before a piece is no reason to drop the piece.
        (
            [(70, 10, 100, 22, 0.7, 0)],
            [(5, 12, 9, 16, 0.6, 0)],
            [(70, 10, 100, 22), (85, 12, 89, 16)],
        ),
        # Cut in both.
        ([(70, 10, 100, 22, 0.6, 0)], [(0, 10, 25, 22, 0.7, 0)], [(70, 10, 105, 22)]),
        # Different classes, and complete objects of different sizes.
        (
            [(84, 10, 96, 22, 0.7, 0)],
            [(4, 10, 16, 22, 0.6, 1)],
            [(84, 10, 96, 22), (84, 10, 96, 22)],
        ),
        (
            [(84, 10, 96, 22, 0.7, 0)],
            [(5, 12, 9, 16, 0.6, 0)],
            [(84, 10, 96, 22), (85, 12, 89, 16)],
        ),
        # Neighbors within one tile.
        (
            [(10, 10, 30, 30, 0.7, 0), (12, 10, 30, 30, 0.6, 0)],
            [],
            [(10, 10, 30, 30), (12, 10, 30, 30)],
        ),
        ([], [], []),
    ],
)
def test_merging_two_tiles(left, right, boxes):
    corners = tile_corners((100, 180), 100, 0.2)
    parts = [detections(*left), detections(*right)]
    found = merge_tiles(parts, corners, (100, 180), 100)
    assert [tuple(box) for box in found.boxes.tolist()] == boxes
    assert found.masks.shape == (len(boxes), 100, 180)
    for (x1, y1, x2, y2), mask in zip(boxes, found.masks, strict=True):
        assert mask.sum() == mask[y1:y2, x1:x2].sum() == (x2 - x1) * (y2 - y1)


def test_a_detector_on_tiles_without_overlap_sees_the_photographs(det, detector):
    photographs = [noise(seed, (40, 40)) for seed in range(4)]
    tiled = Predictor(det.config, det.checkpoint, 'cpu', tile=40, overlap=0)
    assert_close(tiled(photographs[0]), detector(photographs[0]))
    mosaic = np.concatenate([np.concatenate(photographs[i : i + 2], 1) for i in (0, 2)])
    found = tiled([mosaic], batch_size=3)[0]
    whole = np.concatenate(
        [
            one.boxes + np.tile([40 * (seed % 2), 40 * (seed // 2)], 2)
            for seed, one in enumerate(detector(photographs))
        ]
    )
    assert len(found.boxes) == len(whole) == len(found.masks)
    assert found.masks.shape[1:] == (80, 80)
    order, other = np.lexsort(found.boxes.T), np.lexsort(whole.T)
    np.testing.assert_allclose(found.boxes[order], whole[other], atol=1e-2)


def assert_close(one, other):
    np.testing.assert_allclose(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.masks, other.masks)


def test_a_segmentor_slides_over_the_image_without_resizing(seg):
    tiled = Predictor(seg.config, seg.checkpoint, 'cpu', tile=32, overlap=0.5)
    sliding = Predictor(seg.config, seg.checkpoint, 'cpu', SLIDE)
    image = noise(0, (32, 48))  # of the size that the pipeline resizes to
    np.testing.assert_array_equal(tiled(image).labels, sliding(image).labels)
    large = tiled(np.concatenate([image, noise(1, (64, 48))]))
    assert large.labels.shape == (96, 48)
    np.testing.assert_array_equal(large.labels[:16], sliding(image).labels[:16])


@pytest.mark.parametrize(
    ('options', 'message'),
    [({'tile': 31}, 'got 31'), ({'tile': 64, 'overlap': 1.0}, 'got 1.0'), ({'overlap': -0.1}, '-')],
)
def test_tiles_and_overlaps_out_of_range(det, options, message):
    with pytest.raises(InputError, match=message):
        Predictor(det.config, det.checkpoint, 'cpu', **options)
