"""mmca predict: the files that it writes, and what it says of bad input."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmca.cli.main import main
from mmca.inference import Predictor
from mmca.inference.ground_truth import open_truth
from tests.helpers import CLS, needs_mmpretrain, write_image
from tests.inference.trained import noise


@pytest.fixture
def predict(capsys):
    """Run it; returns the exit code and what it printed."""

    def run(trained, *argv):
        words = ['predict', trained.config, trained.checkpoint, *map(str, argv)]
        code = main([*words, '--device', 'cpu'])
        return code, *capsys.readouterr()

    return run


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 5, (48, 32))
    for seed in range(frames):
        writer.write(noise(seed, (32, 48)))
    writer.release()


def test_a_detector(predict, det, tmp_path):
    out = tmp_path / 'out'
    code, text, _ = predict(det, det.images, '--out', out, '--ann', det.ann, '--batch-size', 2)
    assert code == 0
    assert f'{out}: 2 of 2 images, 2 with ground truth\n' in text
    assert files(out) == ['images/0.jpg', 'images/1.jpg', 'predictions.json']
    assert cv2.imread(str(out / 'images/0.jpg')).shape == (32, 64, 3)  # ground truth beside it
    truth, found = COCO(det.ann), COCO(out / 'predictions.json')
    assert found.imgs == {i: {**truth.imgs[i]} for i in truth.imgs}
    assert [c['id'] for c in found.dataset['categories']] == [1, 8, 15, 22, 29]
    result = Predictor(det.config, det.checkpoint, 'cpu')(det.images / '1.jpg')
    listed = found.imgToAnns[1]
    assert len(listed) == len(result.scores) > 10
    corners = np.array([a['bbox'] for a in listed])
    corners[:, 2:] += corners[:, :2]
    np.testing.assert_allclose(corners, result.boxes, atol=1e-5)
    assert np.array_equal(np.float32([a['score'] for a in listed]), result.scores)
    assert [a['category_id'] for a in listed] == [1 + 7 * i for i in result.labels]
    assert np.array_equal(np.stack([found.annToMask(a) for a in listed]), result.masks)
    truth.loadRes(found.dataset['annotations'])


def test_a_segmentor(predict, seg, tmp_path):
    out = tmp_path / 'out'
    code, _, _ = predict(seg, seg.images / '0.jpg', '--out', out, '--ann', seg.ann)
    assert code == 0
    assert files(out) == ['images/0.jpg', 'labels/0.png']
    height, width, _ = cv2.imread(str(out / 'images/0.jpg')).shape
    assert (height > 32, width) == (True, 64)  # a legend below, the ground truth beside it
    predictor = Predictor(seg.config, seg.checkpoint, 'cpu')
    result = predictor(seg.images / '0.jpg')
    written = Image.open(out / 'labels/0.png')
    assert np.array_equal(np.array(written), result.labels + 1)  # ADE20K counts from 1
    colors = np.array(written.convert('RGB'))
    assert np.array_equal(colors, predictor.palette[result.labels])
    truth = open_truth(str(seg.ann), predictor)
    assert (truth.read(seg.ann / '0.png', (32, 32)).labels == 149).all()


def test_inputs_that_cannot_be_read_are_listed_and_the_rest_is_done(predict, seg, tmp_path):
    write_image(tmp_path / 'in/a/1.png', noise(1))
    write_image(tmp_path / 'in/1.png', noise(2))
    (tmp_path / 'in/bad.jpg').write_text('hello')
    (tmp_path / 'in/bad.mp4').write_text('hello')
    (tmp_path / 'in/notes.txt').write_text('hello')
    out = tmp_path / 'out'
    code, text, err = predict(seg, tmp_path / 'in', '--out', out)
    assert code == 1
    assert files(out) == ['images/1.jpg', 'images/a/1.jpg', 'labels/1.png', 'labels/a/1.png']
    assert 'neither image nor video: 1\n' in text
    assert f'{out}: 2 of 3 images, 0 video frames\n' in text
    lines = [line for line in err.splitlines() if line.startswith('failed: ')]
    assert lines == [
        f'failed: {tmp_path}/in/bad.jpg: it is no image of a known format; '
        'copy or download it again',
        f'failed: {tmp_path}/in/bad.mp4: OpenCV reads no frame of it',
    ]


@pytest.mark.parametrize('kind', ['det', 'seg'])
def test_a_video(predict, kind, tmp_path, request):
    trained = request.getfixturevalue(kind)
    write_video(tmp_path / 'clip.mp4', 3)
    out = tmp_path / 'out'
    code, text, _ = predict(trained, tmp_path / 'clip.mp4', '--out', out, '--batch-size', 2)
    assert code == 0
    assert f'{out}: 3 video frames\n' in text
    video = cv2.VideoCapture(str(out / 'clip.mp4'))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (3, 5)
    if kind == 'det':
        images = json.loads((out / 'predictions.json').read_text())['images']
        assert [(i['file_name'], i['frame']) for i in images] == [
            ('clip.mp4', frame) for frame in range(3)
        ]
    else:
        assert files(out / 'labels') == [f'clip.mp4/00000{frame}.png' for frame in range(3)]


def test_a_video_that_ends_early_is_reported(predict, seg, tmp_path, monkeypatch):
    write_video(tmp_path / 'clip.mp4', 3)
    monkeypatch.setattr('mmcv.VideoReader.frame_cnt', 10)
    code, _, err = predict(seg, tmp_path / 'clip.mp4', '--out', tmp_path / 'out')
    assert code == 1
    assert f'failed: {tmp_path}/clip.mp4: it ends after 3 of 10 frames\n' in err
    assert (tmp_path / 'out/clip.mp4').is_file()


def test_truth_of_another_size_is_reported(predict, seg, tmp_path):
    write_image(tmp_path / '0.png', noise(1, (16, 16)))
    code, _, err = predict(seg, tmp_path / '0.png', '--out', tmp_path / 'out', '--ann', seg.ann)
    assert code == 1
    assert 'is (32, 32), the image (16, 16); shown without its ground truth' in err
    assert files(tmp_path / 'out') == ['images/0.jpg', 'labels/0.png']


def test_bad_input(fail, det, seg, tmp_path):
    image, out = det.images / '0.jpg', tmp_path / 'out'
    (tmp_path / 'file').touch()
    cases = [
        (det, ['nowhere.jpg', '--out', out], 'no such file or folder: nowhere.jpg'),
        (det, [tmp_path / '*.jpg', '--out', out], 'no image or video in '),
        (det, [image, '--out', tmp_path / 'file'], 'is a file: name a folder'),
        (det, [image, '--out', tmp_path / 'file/x'], 'cannot write '),
        (det, [image, '--out', out, '--device', 'cuda:99'], "no device 'cuda:99' here, there is"),
        (det, [image, '--out', out, '--score-thr', 2], '--score-thr must be from 0 to 1, got 2.0'),
        (det, [image, '--out', out, '--batch-size', 0], '--batch-size must be 1 or more, got 0'),
        (seg, [image, '--out', out, '--score-thr', 0.5], '--score-thr 0.5 is for detectors'),
        (det, [image, '--out', out, '--ann', det.images], 'is no file; a detector takes a COCO'),
        (det, [image, '--out', out, '--ann', image], 'is no COCO file'),
        (seg, [image, '--out', out, '--ann', image], 'is no folder of label maps'),
        (seg, [image, '--out', out, '--ann', tmp_path], 'has none of the images'),
    ]
    for trained, argv, expected in cases:
        line = fail('predict', trained.config, trained.checkpoint, *argv)
        assert expected in line, line
    assert not out.exists()


@needs_mmpretrain
def test_a_classifier_is_refused(fail, det, tmp_path):
    argv = (det.images / '0.jpg', '--out', tmp_path / 'out')
    assert 'is of a classifier' in fail('predict', CLS, det.checkpoint, *argv)
