"""The explorer: results of the predictor, and attention of the same forward pass."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from mmca.analysis import attention_inputs, attention_maps
from mmca.errors import InputError
from mmca.inference import Predictor
from mmca.inference.explorer import MAX_SIDE, Explorer, View, draw_attention
from tests.inference.trained import SLIDE, noise, write_checkpoint


@pytest.fixture
def wide(tmp_path):
    """An image that the model pads at the bottom."""
    path = tmp_path / 'wide.png'
    cv2.imwrite(str(path), noise(3, (30, 75)))
    return path


@pytest.mark.parametrize('name', ['detector', 'segmentor'])
def test_result_and_attention_come_from_one_forward_pass(name, request, wide):
    predictor = request.getfixturevalue(name)
    explorer, model = Explorer(predictor), predictor.model
    passes = []
    handle = model.backbone.register_forward_pre_hook(lambda _, args: passes.append(args[0]))
    view = explorer.look(wide)
    handle.remove()
    assert len(passes) == 1
    expected = predictor(wide)
    assert view.name == 'wide.png'
    assert len(expected.labels) > 10
    assert np.array_equal(view.result.labels, expected.labels)
    height, width, _ = explorer.draw(view, 0.0).shape
    assert (width, height > 30) == (75, name == 'segmentor')  # its legend is below

    seen = attention_inputs(model.backbone, passes[0]).values()
    seen = [one for one in seen if one.attn.has_kernel]
    assert len(seen) > 1
    # The network sees the image resized by one factor, and zeros below it or on its right.
    factor = predictor.prepare(view.image)['inputs'].shape[2] / 75
    for x, y in ((0, 0), (74, 29), (40, 11)):
        left = draw_attention(view, x, y).axes[::2]
        for axes, one in zip(left, seen, strict=True):
            assert axes.get_title() == one.path.removesuffix('.attn')
            column = int(x * factor * one.grid[1] / passes[0].shape[3])
            row = int(y * factor * one.grid[0] / passes[0].shape[2])
            expected = attention_maps(one, row * one.grid[1] + column)[0].mean(0)
            drawn = np.asarray(axes.images[1].get_array()) ** 2
            np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_threads_get_their_own_image(detector, tmp_path):
    explorer, paths = Explorer(detector), [tmp_path / f'{i}.png' for i in range(3)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), noise(i, (32, 40 + i)))

    def see(path):
        view = explorer.look(path)
        return view, explorer.draw(view, 0.0)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(see, paths))
    for path, (view, drawn) in zip(paths, found, strict=True):
        expected, alone = see(path)
        assert np.array_equal(view.result.scores, expected.result.scores)
        assert np.array_equal(view.kernels[-1][1], expected.kernels[-1][1])
        assert np.array_equal(drawn, alone)


def test_networks_without_attention_to_show(seg, tmp_path, wide):
    config = tmp_path / 'softmax.py'
    config.write_text(f"_base_ = {seg.config!r}\nmodel = dict(backbone=dict(attn='SSSS'))\n")
    explorer = Explorer(Predictor(config, write_checkpoint(config, 0.3), 'cpu'))
    assert explorer.no_attention == 'no attention to show: CAPVT has no circulant blocks'
    assert explorer.look(wide).kernels == []

    explorer = Explorer(Predictor(seg.config, seg.checkpoint, 'cpu', SLIDE))
    assert 'model.test_cfg.mode=whole' in explorer.no_attention
    assert explorer.look(wide).kernels == []


def test_large_images_shrink(detector, tmp_path):
    path = tmp_path / 'long.png'
    cv2.imwrite(str(path), noise(0, (40, 2 * MAX_SIDE)))
    view = Explorer(detector).look(path)
    assert view.image.shape == (20, MAX_SIDE, 3)
    assert view.result.masks.shape[1:] == (20, MAX_SIDE)


def test_drawn_attention_belongs_to_the_patch():
    weights = np.zeros((4, 6), np.float32)
    weights[0, 2] = 1  # two to the right, on the torus
    image = np.full((120, 180, 3), 100, np.uint8)
    kernel = ('layers.0', weights, (40.0, 36.0))  # 160 x 216: the image and padding
    view = View('a.png', image, None, [kernel])
    left, right = draw_attention(view, x=100, y=50).axes  # patch 1, 2
    shown, attention = left.images
    assert shown.get_extent() == [0, 180, 120, 0]
    assert attention.get_extent() == [0, 216, 160, 0]
    assert (*left.get_xlim(), *left.get_ylim()) == (0, 180, 120, 0)
    assert np.argwhere(attention.get_array()).tolist() == [[1, 4]]
    assert left.patches[0].get_bbox().extents.tolist() == [72, 40, 108, 80]
    assert np.argwhere(right.images[0].get_array()).tolist() == [[2, 5]]
    assert right.patches[0].get_bbox().extents.tolist() == [3, 2, 4, 3]
    attention = draw_attention(view, x=179, y=50).axes[0].images[1]  # patch 1, 4
    assert np.argwhere(attention.get_array()).tolist() == [[1, 0]]
    with pytest.raises(InputError, match=r'pixel 180, 0 is outside the image, 180 x 120'):
        draw_attention(view, 180, 0)
