"""predict_files: the files it writes, and the inputs it cannot read."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmca.errors import InputError
from mmca.inference import Summary, predict_files
from tests.helpers import write_image
from tests.inference.trained import noise


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 5, (48, 32))
    for seed in range(frames):
        writer.write(noise(seed, (32, 48)))
    writer.release()


def test_a_detector(detector, det, tmp_path):
    assert predict_files(detector, [det.images], tmp_path, det.ann, batch_size=2) == Summary(
        images=2, with_truth=2
    )
    assert files(tmp_path) == ['images/0.jpg', 'images/1.jpg', 'predictions.json']
    assert cv2.imread(str(tmp_path / 'images/0.jpg')).shape == (32, 64, 3)  # truth beside it
    truth, found = COCO(det.ann), COCO(tmp_path / 'predictions.json')
    assert found.imgs == truth.imgs
    assert [c['id'] for c in found.dataset['categories']] == [1, 8, 15, 22, 29]
    result, listed = detector(det.images / '1.jpg'), found.imgToAnns[1]
    assert len(listed) == len(result.scores) > 10
    corners = np.array([a['bbox'] for a in listed])
    corners[:, 2:] += corners[:, :2]
    np.testing.assert_allclose(corners, result.boxes, atol=1e-5)
    assert np.array_equal(np.float32([a['score'] for a in listed]), result.scores)
    assert [a['category_id'] for a in listed] == [1 + 7 * i for i in result.labels]
    assert np.array_equal(np.stack([found.annToMask(a) for a in listed]), result.masks)
    truth.loadRes(found.dataset['annotations'])


def test_a_segmentor(segmentor, seg, tmp_path):
    predict_files(segmentor, [seg.images / '0.jpg'], tmp_path, seg.ann)
    assert files(tmp_path) == ['images/0.jpg', 'labels/0.png']
    height, width, _ = cv2.imread(str(tmp_path / 'images/0.jpg')).shape
    assert (height > 32, width) == (True, 64)  # the legend below, the ground truth beside it
    labels = segmentor(seg.images / '0.jpg').labels
    written = Image.open(tmp_path / 'labels/0.png')
    assert np.array_equal(np.array(written), labels + 1)  # ADE20K counts from 1
    assert np.array_equal(np.array(written.convert('RGB')), segmentor.palette[labels])


def test_unreadable_inputs_do_not_stop_the_others(segmentor, tmp_path):
    folder, out = tmp_path / 'in', tmp_path / 'out'
    write_image(folder / 'a/1.png', noise(1))
    write_image(folder / '1.png', noise(2))
    for name in ('bad.jpg', 'bad.mp4', 'notes.txt'):
        (folder / name).write_text('hello')
    summary = predict_files(segmentor, [folder, 'nowhere.jpg', tmp_path / '*.gif'], out)
    assert files(out) == ['images/1.jpg', 'images/a/1.jpg', 'labels/1.png', 'labels/a/1.png']
    assert (summary.images, summary.frames, summary.skipped) == (2, 0, 1)
    assert summary.failures == [
        ('nowhere.jpg', 'no such image or video'),
        (f'{tmp_path}/*.gif', 'no such image or video'),
        (f'{folder}/bad.jpg', 'the file is not an image of a known format; replace or remove it'),
        (f'{folder}/bad.mp4', 'read 0 of 0 frames'),
    ]


@pytest.mark.parametrize('name', ['detector', 'segmentor'])
def test_a_video(name, tmp_path, request):
    write_video(tmp_path / 'clip.mp4', 3)
    out = tmp_path / 'out'
    predictor = request.getfixturevalue(name)
    summary = predict_files(predictor, [tmp_path / 'clip.mp4'], out, batch_size=2)
    assert summary == Summary(frames=3)
    video = cv2.VideoCapture(str(out / 'clip.mp4'))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (3, 5)
    if name == 'detector':
        assert files(out) == ['clip.mp4', 'predictions.json']
        images = json.loads((out / 'predictions.json').read_text())['images']
        assert [(i['file_name'], i['frame']) for i in images] == [
            ('clip.mp4', frame) for frame in range(3)
        ]
    else:
        assert files(out / 'labels') == [f'clip.mp4/00000{frame}.png' for frame in range(3)]


def test_a_broken_ground_truth_is_listed(segmentor, detector, seg, det, tmp_path):
    write_image(tmp_path / '0.png', noise(1, (16, 16)))
    summary = predict_files(segmentor, [tmp_path / '0.png'], tmp_path / 'out', seg.ann)
    ((path, reason),) = summary.failures
    assert path == f'{tmp_path}/0.png'
    assert reason.endswith('gives 32 x 32 pixels, the image has 16 x 16; drawn without its ground'
                           ' truth')  # fmt: skip
    assert files(tmp_path / 'out') == ['images/0.jpg', 'labels/0.png']

    content = json.loads(det.ann.read_text())
    content['annotations'][0]['bbox'] = [1]
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    out = tmp_path / 'detected'
    summary = predict_files(detector, [det.images], out, tmp_path / 'ann.json')
    assert summary.images == 2
    ((path, reason),) = summary.failures
    assert (path, reason[:11]) == (str(det.images / '0.jpg'), 'ValueError(')


def test_bad_arguments(detector, segmentor, det, seg, tmp_path):
    image = det.images / '0.jpg'
    (tmp_path / 'empty').mkdir()
    for predictor, options, message in [
        (detector, {'score_thr': 2}, 'score_thr must be from 0 to 1, got 2'),
        (detector, {'batch_size': 0}, 'batch_size must be 1 or more, got 0'),
        (detector, {'ann': image}, 'is not a COCO file'),
        (segmentor, {'ann': image}, 'is not a folder of label maps'),
        (segmentor, {'ann': tmp_path / 'empty'}, 'matches none of the images'),
    ]:
        with pytest.raises(InputError, match=message):
            predict_files(predictor, [image], tmp_path / 'out', **options)
    assert not (tmp_path / 'out').exists()
