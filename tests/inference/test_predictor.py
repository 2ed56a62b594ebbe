"""The predictor: its results equal those of a test run, whatever the input."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as rle

from mmca.config.reader import load_config
from mmca.errors import InputError
from mmca.inference import Detections, Predictor, Segmentation
from tests.helpers import CLS, SEG, forget_mmengine, needs_mmpretrain
from tests.inference.trained import CLASSES, noise


def run_test(trained, folder, evaluator):
    forget_mmengine()
    cfg = load_config(trained.config)
    cfg.work_dir, cfg.load_from = str(folder / 'work'), trained.checkpoint
    cfg.test_evaluator = evaluator
    Runner.from_cfg(cfg).test()


def test_a_detector_matches_a_test_run(det, detector, tmp_path):
    out = tmp_path / 'out.pkl'
    run_test(det, tmp_path, dict(type='DumpDetResults', out_file_path=str(out)))
    expected = pickle.loads(out.read_bytes())
    results = detector([item['img_path'] for item in expected])
    assert not np.array_equal(results[0].scores, results[1].scores)
    for item, result in zip(expected, results, strict=True):
        found = item['pred_instances']
        assert len(found['scores']) > 10
        masks = np.stack([rle.decode(mask) for mask in found['masks']]).astype(bool)
        assert masks.any()
        boxes, scores, labels = (found[k].numpy() for k in ('bboxes', 'scores', 'labels'))
        assert_equal(result, Detections(boxes, scores, labels, CLASSES, masks))


def test_boxes_of_a_model_that_predicts_masks_alone(detector, monkeypatch):
    """Models such as SOLO have boxes of zeros in mmdet."""
    from mmdet.structures import DetDataSample

    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 5:9, 10:20] = True  # and an empty one
    found = InstanceData(bboxes=torch.zeros(2, 4), scores=torch.ones(2), masks=masks)
    found.labels = torch.zeros(2, dtype=torch.int64)
    sample = DetDataSample(pred_instances=found, metainfo={'ori_shape': (40, 40)})
    monkeypatch.setattr(detector.model, 'test_step', lambda batch: [sample])
    result = detector(noise(0, (40, 40)))
    assert result.boxes.tolist() == [[10, 5, 20, 9], [0, 0, 0, 0]]
    np.testing.assert_array_equal(result.masks, masks.numpy())


def test_a_segmentor_matches_a_test_run(seg, segmentor, tmp_path):
    out = tmp_path / 'out'
    run_test(seg, tmp_path, dict(type='IoUMetric', output_dir=str(out), format_only=True))
    palette = np.array(segmentor.dataset.metainfo['palette'], np.uint8)
    for name in '01':
        expected = np.array(Image.open(out / f'{name}.png'))  # counted from 1
        assert len(np.unique(expected)) > 2
        names = segmentor.dataset.metainfo['classes']
        result = segmentor(seg.images / f'{name}.jpg')
        assert_equal(result, Segmentation(expected - 1, names, palette))


def assert_equal(result, expected):
    """Fields, shapes, dtypes and values are equal."""
    assert type(result) is type(expected)
    for one, other in zip(vars(result).values(), vars(expected).values(), strict=True):
        np.testing.assert_array_equal(one, other, strict=isinstance(other, np.ndarray))


@pytest.mark.parametrize('name', ['detector', 'segmentor'])
def test_a_batch_of_any_sizes_changes_nothing(name, request):
    predictor = request.getfixturevalue(name)
    images = [noise(0), noise(1, (40, 24)), noise(2), noise(3, (24, 40))]
    single = [predictor(image) for image in images]
    for one, other in zip(single, predictor(images, batch_size=3), strict=True):
        assert len(one.labels) == len(other.labels)
        if name == 'detector':
            torch.testing.assert_close(one.boxes, other.boxes, atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=1e-4)
        else:
            assert (one.labels == other.labels).mean() > 0.999
    assert predictor([]) == []


def test_arrays_and_files_agree(det, detector):
    path = det.images / '0.jpg'
    assert_equal(detector(str(path)), detector(cv2.imread(str(path))))
    assert np.array_equal(detector.read(path), cv2.imread(str(path)))


def test_images_of_other_libraries(detector):
    gray, alpha = noise(0)[..., :1], np.dstack([noise(0), noise(1)[..., 0]])
    expected = detector(np.repeat(gray, 3, 2))
    for image in (gray, gray[..., 0], Image.fromarray(gray[..., 0])):
        assert_equal(detector(image), expected)
    expected = detector(noise(0))
    turned = Image.fromarray(np.rot90(noise(0)[..., ::-1]))
    turned.getexif()[0x0112] = 6
    for image in (alpha, turned):
        assert_equal(detector(image), expected)
    assert len(detector(noise(0).astype(float)).scores) == len(expected.scores)


def test_classes_of_the_checkpoint_come_first(seg, tmp_path):
    content = torch.load(seg.checkpoint)
    names = [f'class {i}' for i in range(150)]
    content['meta'] = {'dataset_meta': {'CLASSES': names}}
    torch.save(content, tmp_path / 'named.pth')
    predictor = Predictor(seg.config, tmp_path / 'named.pth', 'cpu')
    assert predictor.names == tuple(names)
    assert len({tuple(color) for color in predictor.palette}) == 150
    content['meta'] = {'dataset_meta': {'classes': names[:3]}}
    torch.save(content, tmp_path / 'three.pth')
    with pytest.raises(InputError, match=r'num_classes is 150, but .* name 3 classes \(class 0,'):
        Predictor(seg.config, tmp_path / 'three.pth', 'cpu')


def test_initial_weights_need_no_file(seg, segmentor):
    options = [f'model.backbone.init_cfg.{word}' for word in ('type=Pretrained', 'checkpoint=no')]
    predictor = Predictor(seg.config, seg.checkpoint, 'cpu', options)
    assert_equal(predictor(noise(0)), segmentor(noise(0)))


def test_bad_input(det, detector, tmp_path):
    with pytest.raises(InputError, match='does not match this model'):
        Predictor(SEG, det.checkpoint, 'cpu')
    with pytest.raises(InputError, match=r'checkpoint not found: nowhere\.pth'):
        Predictor(det.config, 'nowhere.pth', 'cpu')
    with pytest.raises(RuntimeError, match='device'):
        Predictor(det.config, det.checkpoint, 'gpu')
    with pytest.raises(InputError, match=r'no such image: nowhere\.jpg'):
        detector('nowhere.jpg')
    for values in (noise(0)[None], noise(0).astype(np.uint16), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(InputError, match=r'an image must be \(H, W, 3\)'):
            detector(values)
    with pytest.raises(InputError, match='from 0 to 255, got 0 to 1'):
        detector(noise(0) / 255)
    with pytest.raises(InputError, match=r'got .*NoneType.* cv2\.imread returns'):
        detector(cv2.imread('nowhere.jpg'))
    whole = (det.images / '0.jpg').read_bytes()
    for name, content in (('half', whole[: len(whole) // 2]), ('empty', b''), ('text', b'hello')):
        path = tmp_path / f'{name}.jpg'
        path.write_bytes(content)
        with pytest.raises(InputError, match=f'cannot read .*{name}.jpg'):
            detector(path)


@needs_mmpretrain
def test_a_classifier_is_refused(seg):
    with pytest.raises(InputError, match='defines a classifier'):
        Predictor(CLS, seg.checkpoint, 'cpu')
