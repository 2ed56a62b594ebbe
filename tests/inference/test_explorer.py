"""The explorer: results of the predictor, attention of the same forward pass."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from mmca.analysis import attention_inputs, attention_maps
from mmca.errors import InputError
from mmca.inference import Predictor
from mmca.inference.explorer import GAP, MAX_SIDE, PANEL, Explorer, Kernel, View, draw_attention
from mmca.layers import CirculantAttention
from tests.inference.trained import noise


@pytest.fixture(scope='module')
def detector(det):
    return Explorer(Predictor(det.config, det.checkpoint, 'cpu'))


@pytest.fixture(scope='module')
def segmentor(seg):
    return Explorer(Predictor(seg.config, seg.checkpoint, 'cpu'))


@pytest.fixture
def wide(tmp_path):
    """An image that is padded at the bottom."""
    path = tmp_path / 'wide.png'
    cv2.imwrite(str(path), noise(3, (30, 75)))
    return path


@pytest.mark.parametrize('name', ['detector', 'segmentor'])
def test_results_are_the_predictors_and_maps_those_of_one_forward_pass(name, request, wide):
    explorer = request.getfixturevalue(name)
    predictor, model = explorer.predictor, explorer.predictor.model
    passes = []
    handle = model.backbone.register_forward_pre_hook(lambda _, args: passes.append(args[0]))
    view = explorer.look(wide)
    handle.remove()
    assert len(passes) == 1
    expected = predictor(wide)
    assert view.name == 'wide.png'
    assert len(view.result.labels) == len(expected.labels) > 10
    assert np.array_equal(view.result.labels, expected.labels)

    seen = attention_inputs(model.backbone, passes[0]).values()
    seen = [one for one in seen if isinstance(one.attn, CirculantAttention)]
    assert len(view.kernels) == len(seen) == explorer.blocks > 1
    # The network sees the image resized by one factor, and zeros below it or on its right.
    factor = predictor.prepare(view.image)['inputs'].shape[2] / 75
    for kernel, one in zip(view.kernels, seen, strict=True):
        assert kernel.block == one.path.removesuffix('.attn')
        for x, y in ((0, 0), (74, 29), (40, 11)):
            column = int(x * factor * one.grid[1] / passes[0].shape[3])
            row = int(y * factor * one.grid[0] / passes[0].shape[2])
            assert kernel.token(x, y) == (row, column)
            maps = attention_maps(one, row * one.grid[1] + column)[0]
            np.testing.assert_allclose(kernel.attention(x, y), maps.mean(0), atol=1e-6)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_another_threshold_is_drawn_without_a_forward_pass(detector, wide, monkeypatch):
    view = detector.look(wide)
    monkeypatch.setattr(detector.predictor, 'forward', None)
    assert np.array_equal(detector.draw(view, 1.0), view.image)
    low = detector.draw(view, 0.0)
    assert low.shape == view.image.shape
    assert (low != view.image).any()
    assert np.array_equal(detector.draw(view, 1.0), view.image)


def test_the_image_of_a_label_map_keeps_its_coordinates(segmentor, wide):
    view = segmentor.look(wide)
    drawn = segmentor.draw(view, 0.3)
    assert drawn.shape[0] > 30  # the legend is below
    assert drawn.shape[1] == 75
    assert view.contains(0, 29)
    assert not view.contains(0, 30)


def test_threads_get_their_own_image(detector, tmp_path):
    paths = [tmp_path / f'{i}.png' for i in range(3)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), noise(i, (32, 40 + i)))

    def see(path):
        view = detector.look(path)
        return view, detector.draw(view, 0.0)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(see, paths))
    for path, (view, drawn) in zip(paths, found, strict=True):
        expected, alone = see(path)
        assert np.array_equal(view.result.scores, expected.result.scores)
        assert np.array_equal(view.kernels[-1].weights, expected.kernels[-1].weights)
        assert np.array_equal(drawn, alone)


def test_networks_without_maps_say_so(det, seg, wide):
    options = ('model.backbone.attn=SSSS',)
    content = torch.load(seg.checkpoint)
    kept = {k: v for k, v in content['state_dict'].items() if not k.startswith('backbone')}
    from mmengine.registry import MODELS, DefaultScope

    from mmca.config.reader import load_config

    cfg = load_config(seg.config, options)
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = MODELS.build(cfg.model.backbone).state_dict()
    kept |= {f'backbone.{key}': value for key, value in backbone.items()}
    torch.save({'state_dict': kept, 'meta': {}}, wide.with_name('softmax.pth'))
    explorer = Explorer(Predictor(seg.config, wide.with_name('softmax.pth'), 'cpu', options))
    assert explorer.no_attention == 'CAPVT has no circulant blocks: there is no attention to show'
    assert explorer.look(wide).kernels == ()

    options = [
        f'model.test_cfg.{word}' for word in ('mode=slide', 'crop_size=(32,32)', 'stride=(16,16)')
    ]
    explorer = Explorer(Predictor(seg.config, seg.checkpoint, 'cpu', options))
    assert 'model.test_cfg.mode=whole' in explorer.no_attention
    assert explorer.look(wide).kernels == ()


def test_large_images_are_shrunk(detector, tmp_path):
    path = tmp_path / 'long.png'
    cv2.imwrite(str(path), noise(0, (40, 2 * MAX_SIDE)))
    view = detector.look(path)
    assert view.image.shape == (20, MAX_SIDE, 3)
    assert view.result.masks.shape[1:] == (20, MAX_SIDE)


def test_bad_files(detector, tmp_path):
    path = tmp_path / 'text.jpg'
    path.write_text('hello')
    with pytest.raises(InputError, match=r'cannot read .*text\.jpg: it is no image'):
        detector.look(path)


def test_a_drawn_map_is_that_of_the_patch():
    weights = np.zeros((4, 6), np.float32)
    weights[0, 1] = 1  # to the right neighbor, on the torus
    image = np.full((120, 180, 3), 100, np.uint8)
    kernel = Kernel('layers.0', weights, (40.0, 36.0))  # 160 x 216: the image and padding
    view = View('a.png', image, None, (kernel,))
    drawn = draw_attention(view, kernel, x=100, y=50)  # patch 1, 2
    width = PANEL * 180 // 120
    assert drawn.shape == (PANEL, 2 * width + GAP, 3)

    def brightest(panel):
        rows, columns = np.nonzero(panel[..., 1] > 130)  # green of viridis at its top
        return rows.min() / 2, rows.max() / 2, columns.min() / 2, columns.max() / 2

    found = brightest(drawn[:, :width])
    np.testing.assert_allclose(found, (40, 80, 108, 144), atol=2.5)
    rows, columns = np.nonzero((drawn[:, :width] == (0, 0, 255)).all(2))
    np.testing.assert_allclose((rows.min() / 2, columns.min() / 2), (40, 72), atol=1.5)
    # In the kernel's panel 0, 0 is at 2, 3, of 6 columns that fill the panel.
    found = brightest(drawn[:, width + GAP :])
    np.testing.assert_allclose(found, (60, 90, 120, 150), atol=2.5)
    # At the last column the right neighbor is the first one, and the padding is cut off.
    wrapped = draw_attention(view, kernel, x=179, y=50)[:, :width]
    assert kernel.token(179, 50) == (1, 4)
    assert kernel.attention(179, 50)[1, 5] == 1
    assert not (wrapped[..., 1] > 130).any()
    with pytest.raises(InputError, match=r'pixel 180, 0 is not in the image, 180 x 120 \(W x H\)'):
        draw_attention(view, kernel, 180, 0)
