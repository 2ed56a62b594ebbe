"""predict_files: the files it writes, the ground truth it finds, the inputs it cannot read."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmca.errors import InputError
from mmca.inference import Summary, predict_files
from mmca.inference.files import find_sources
from mmca.inference.ground_truth import CocoTruth, LabelMapTruth
from mmca.inference.writers import DetectionTable
from tests.helpers import write_coco, write_image
from tests.inference.trained import noise


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def test_a_detector(detector, det, tmp_path):
    summary = predict_files(detector, [det.images], tmp_path, det.ann, 0.0, 2)
    labels = [i for n in (0, 1) for i in detector(det.images / f'{n}.jpg').labels]
    objects = Counter(detector.names[i] for i in labels)
    written = [tmp_path / 'images', tmp_path / 'predictions.json']
    assert summary == Summary(2, objects=objects, written=written, with_truth=2)
    assert files(tmp_path) == ['images/0.jpg', 'images/1.jpg', 'predictions.json']
    assert cv2.imread(str(tmp_path / 'images/0.jpg')).shape == (32, 64, 3)  # truth beside it
    truth, found = COCO(det.ann), COCO(tmp_path / 'predictions.json')
    assert found.imgs == truth.imgs
    assert [c['id'] for c in found.dataset['categories']] == [1, 8, 15, 22, 29]
    result = detector([det.images / f'{n}.jpg' for n in (0, 1)], 2)[1]  # the same batch
    listed = found.imgToAnns[1]
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


def write_clip(path, frames):
    """Write an mp4 file of noise, 48 x 32, at 5 frames per second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 5, (48, 32))
    for seed in range(frames):
        writer.write(noise(seed, (32, 48)))
    writer.release()


@pytest.mark.parametrize('name', ['detector', 'segmentor'])
def test_a_video(name, tmp_path, request):
    write_clip(tmp_path / 'clip.mp4', 3)
    out = tmp_path / 'out'
    predictor = request.getfixturevalue(name)
    summary = predict_files(predictor, [tmp_path / 'clip.mp4'], out, batch_size=2)
    names = ['clip.mp4', 'labels' if name == 'segmentor' else 'predictions.json']
    assert (summary.frames, summary.images, summary.failures) == (3, 0, [])
    assert summary.written == [out / one for one in names]
    video = cv2.VideoCapture(str(out / 'clip.mp4'))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (3, 5)
    if name == 'segmentor':
        assert files(out / 'labels') == [f'clip.mp4/00000{frame}.png' for frame in range(3)]
    else:
        assert files(out) == ['clip.mp4', 'predictions.json']
        images = json.loads((out / 'predictions.json').read_text())['images']
        listed = [(i['id'], i['file_name'], i['frame']) for i in images]
        assert listed == [(frame + 1, 'clip.mp4', frame) for frame in range(3)]


@pytest.mark.parametrize('name', ['clip.wmv', 'clip'])
def test_a_video_by_any_name(name, segmentor, tmp_path):
    write_clip(tmp_path / 'a.mp4', 1)
    (tmp_path / 'a.mp4').rename(tmp_path / name)
    assert predict_files(segmentor, [tmp_path / name], tmp_path / 'out').frames == 1


def test_the_place_of_results_changes_no_input(segmentor, tmp_path, monkeypatch):
    write_image(tmp_path / 'photos/1.png', noise(0))
    monkeypatch.chdir(tmp_path)
    assert predict_files(segmentor, ['photos'], '.').images == 1
    for inputs, out in ((['images'], '.'), (['labels/1.png'], tmp_path)):
        with pytest.raises(InputError, match=r'a result would overwrite the input .*1\.(jpg|png)'):
            predict_files(segmentor, inputs, out)


def test_unreadable_inputs_do_not_stop_the_others(segmentor, tmp_path):
    folder, out = tmp_path / 'in', tmp_path / 'out'
    write_image(folder / 'a/1.png', noise(1))
    write_image(folder / '1.png', noise(2))
    for name in ('bad.jpg', 'bad.mp4', 'notes.txt'):
        (folder / name).write_text('hello')
    summary = predict_files(segmentor, [folder, 'nowhere.jpg', tmp_path / '*.gif'], out)
    assert files(out) == ['images/1.jpg', 'images/a/1.jpg', 'labels/1.png', 'labels/a/1.png']
    assert (summary.images, summary.frames, summary.skipped) == (2, 0, 1)
    assert summary.written == [out / 'images', out / 'labels']
    assert summary.failures == [
        ('nowhere.jpg', 'no such image or video'),
        (f'{tmp_path}/*.gif', 'no such image or video'),
        (f'{folder}/bad.jpg', 'the file is not an image of a known format; replace or remove it'),
        (f'{folder}/bad.mp4', 'read 0 of 0 frames'),
    ]


def test_a_broken_ground_truth_is_listed(segmentor, detector, seg, det, tmp_path):
    write_image(tmp_path / '0.png', noise(1, (16, 16)))
    summary = predict_files(segmentor, [tmp_path / '0.png'], tmp_path / 'out', seg.ann)
    start, size = 'drawn without ground truth: ', '(H, W), but the image has'
    assert summary.failures == [
        (f'{tmp_path}/0.png', f'{start}its size is (32, 32) {size} (16, 16)')
    ]
    assert files(tmp_path / 'out') == ['images/0.jpg', 'labels/0.png']

    content = json.loads(det.ann.read_text())
    content['annotations'][0]['bbox'] = [1]
    content['images'][1]['width'] = 16
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    summary = predict_files(detector, [det.images], tmp_path / 'more', tmp_path / 'ann.json')
    assert summary.images == 2
    (first, reason), second = summary.failures
    assert first == str(det.images / '0.jpg')
    assert reason.startswith(f'{start}ValueError(')
    assert second == (str(det.images / '1.jpg'), f'{start}its size is (32, 16) {size} (32, 32)')


def test_bad_arguments(detector, segmentor, det, tmp_path):
    image = det.images / '0.jpg'
    (tmp_path / 'empty').mkdir()
    for predictor, options, message in [
        (detector, {'score_thr': 2}, 'score_thr must be from 0 to 1, got 2'),
        (detector, {'batch_size': 0}, 'batch_size must be 1 or more, got 0'),
        (detector, {'ann': image}, 'is not a COCO file'),
        (segmentor, {'ann': image}, 'is not a folder of label maps'),
        (segmentor, {'ann': tmp_path / 'empty'}, 'does not match any of the images'),
    ]:
        with pytest.raises(InputError, match=message):
            predict_files(predictor, [image], tmp_path / 'out', **options)
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def truth(detector, tmp_path):
    """Open a COCO file of two images, with a change."""

    def open_changed(change):
        path = write_coco(tmp_path, 'val', 2, ('disc', 'ring'))
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return CocoTruth(path, detector)

    return open_changed


def test_an_entry_matches_the_end_of_one_path(truth):
    truth = truth(lambda content: content['images'][1].update(file_name='b/1.jpg'))
    assert truth.find(Path('/data/a/1.jpg'), '1.jpg') is None
    assert truth.find(Path('/data/b/1.jpg'), '1.jpg')['id'] == 1
    assert truth.find(Path('/data/c/0.jpg'), '0.jpg')['id'] == 0
    assert truth.find(Path('/data/d/0.jpg'), '0.jpg') is None  # another image has it
    assert (truth.next_id, truth.category_ids) == (2, {'disc': 1, 'ring': 8})


def test_unknown_categories_are_ignored(truth, capsys):
    def add(content):
        content['categories'].append({'id': 5, 'name': 'cloud'})
        content['annotations'].append({**content['annotations'][0], 'id': 9, 'category_id': 5})

    truth = truth(add)
    assert 'ignoring cloud, which are not classes of the model' in capsys.readouterr().err
    found, shape = truth.read(truth.find(Path('/0.jpg'), '0.jpg'))
    assert found.boxes.tolist() == [[2, 2, 22, 22]]
    assert (found.labels.tolist(), found.scores.tolist()) == ([0], [1])
    assert np.argwhere(found.masks[0]).min() == 2
    assert shape == (32, 32)


@pytest.mark.parametrize(
    'change',
    [
        lambda content: [entry.update(id=0) for entry in content['annotations']],
        lambda content: [entry.update(id=f'a{entry["id"]}') for entry in content['annotations']],
        lambda content: content['categories'].reverse(),
        lambda content: content['categories'].insert(0, {'id': 0, 'name': 'disc'}),
        lambda content: [entry.pop('area') for entry in content['annotations']],
        lambda c: (c['images'][0].update(id='a'), c['annotations'][0].update(image_id='a')),
        lambda content: content['images'][0].update(file_name='val2017\\0.jpg'),
    ],
)
def test_ids_mean_nothing(truth, change):
    truth = truth(change)
    found, _ = truth.read(truth.find(Path('/val2017/0.jpg'), '0.jpg'))
    assert (found.boxes.tolist(), found.labels.tolist()) == ([[2, 2, 22, 22]], [0])
    assert DetectionTable(('new', 'disc', 'ring'), truth).content['categories'][1]['id'] == 1


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['images'][0].pop('file_name'), r"is not a COCO file \(KeyError: 'file_name'"),
        (lambda c: c.pop('categories'), 'has no class in common with the model: disc, square, '),
    ],
)
def test_malformed_files(truth, change, message):
    with pytest.raises(InputError, match=message):
        truth(change)


def test_label_maps(seg, segmentor):
    truth = LabelMapTruth(seg.ann, segmentor)
    found, shape = truth.read(truth.find(seg.images / '0.jpg', 'validation/0.jpg'))
    assert (found.labels == 149).all()  # counted from 1 in the file
    assert shape == (32, 32)
    assert truth.find(Path('nowhere.jpg'), 'nowhere.jpg') is None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hidden = 'a/._1.jpg', 'a/.ipynb_checkpoints/1-checkpoint.jpg'
    names = 'a/1.jpg', 'a/sub/1.JPG', 'a/notes.txt', 'b/1.png', 'b/1.jpg', 'b/1.mp4'
    for name in (*names, *hidden):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'x[1].jpg').touch()


@pytest.mark.usefixtures('folder')
@pytest.mark.parametrize(
    ('inputs', 'names', 'missing', 'skipped'),
    [
        (['a'], ['1', 'sub/1'], [], 1),
        (['a/1.jpg', 'a/1.jpg', 'a/../a/1.jpg'], ['1'], [], 0),
        (['a', 'b'], ['a/1', 'a/sub/1', 'b/1', 'b/1_2', 'b/1_3'], [], 1),
        (['a/1.jpg', 'b/1.jpg'], ['a/1', 'b/1'], [], 0),
        (['*/1.jpg'], ['a/1', 'b/1'], [], 0),
        (['a/**/*.*'], ['1', 'sub/1'], [], 1),
        (['a/notes.txt'], ['notes'], [], 0),  # a named file, whatever its suffix
        (['x[1].jpg'], ['x[1]'], [], 0),  # a file, not a pattern
        (['nowhere', 'a/1.jpg', '*.gif'], ['1'], ['nowhere', '*.gif'], 0),
        (['nowhere.jpg'], [], ['nowhere.jpg'], 0),
    ],
)
def test_inputs_and_names(inputs, names, missing, skipped):
    sources, *others = find_sources(inputs)
    assert [source.name for source in sources] == names
    assert others == [missing, skipped]
