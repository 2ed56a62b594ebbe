"""Ground truth: which image has which, and malformed files."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmca.errors import InputError
from mmca.inference.ground_truth import CocoTruth, LabelMapTruth
from mmca.inference.sources import Source
from tests.helpers import write_coco

NAMES = ('disc', 'ring')


def source(path):
    return Source(Path(path), path, path)


@pytest.fixture
def changed(tmp_path):
    """Write a COCO file of two images, with a change."""

    def write(change):
        path = write_coco(tmp_path, 'val', 2, NAMES)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return str(path)

    return write


def test_an_entry_matches_the_end_of_one_path(changed, detector):
    truth = CocoTruth(changed(lambda c: c['images'][1].update(file_name='b/1.jpg')), detector)
    assert truth.find(source('/data/a/1.jpg')) is None
    assert truth.find(source('/data/b/1.jpg'))['id'] == 1
    assert truth.find(source('/data/c/0.jpg'))['id'] == 0
    assert truth.find(source('/data/d/0.jpg')) is None  # another image has it
    assert (truth.next_id, truth.category_ids) == (2, {'disc': 1, 'ring': 8})


def test_objects(changed, detector, capsys):
    def add(content):
        content['categories'].append({'id': 5, 'name': 'cloud'})
        content['annotations'].append({**content['annotations'][0], 'id': 9, 'category_id': 5})

    truth = CocoTruth(changed(add), detector)
    assert 'ignoring cloud, which the model does not know' in capsys.readouterr().err
    found = truth.read(truth.find(source('/0.jpg')), (32, 32))
    assert found.boxes.tolist() == [[2, 2, 22, 22]]
    assert (found.labels.tolist(), found.scores.tolist()) == ([0], [1])
    assert np.argwhere(found.masks[0]).min() == 2
    with pytest.raises(InputError, match='--ann gives 32 x 32 pixels, the image has 16 x 32'):
        truth.read(truth.find(source('/1.jpg')), (32, 16))


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda c: c['images'][0].pop('file_name'), r"is not a COCO file \(KeyError: 'file_name'"),
        (lambda c: c.pop('categories'), r"is not a COCO file \(KeyError: 'categories'"),
        (lambda c: c['categories'].clear(), 'has none of the classes of the model: disc, square, '),
    ],
)
def test_malformed_files(changed, detector, change, says):
    with pytest.raises(InputError, match=says):
        CocoTruth(changed(change), detector)


def test_label_maps(seg, segmentor):
    truth = LabelMapTruth(seg.ann, segmentor)
    path = truth.find(source('0.jpg'))
    assert (truth.read(path, (32, 32)).labels == 149).all()  # counted from 1 in the file
    assert truth.find(source('nowhere.jpg')) is None
