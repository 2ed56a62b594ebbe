"""Ground truth: which image has which, and broken files."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmca.errors import InputError
from mmca.inference.ground_truth import CocoTruth
from mmca.inference.sources import Source
from tests.helpers import write_coco

NAMES = ('disc', 'ring')


def source(path):
    return Source(Path(path), path, path)


@pytest.fixture
def changed(tmp_path):
    """Write a COCO file of two images, with a change; returns its path."""

    def write(change):
        path = write_coco(tmp_path, 'val', 2, NAMES)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return str(path)

    return write


def test_an_entry_is_the_end_of_a_path_and_of_one_image(changed):
    truth = CocoTruth(changed(lambda c: c['images'][1].update(file_name='b/1.jpg')), NAMES)
    assert truth.find(source('/data/a/1.jpg')) is None
    assert truth.find(source('/data/b/1.jpg'))['id'] == 1
    assert truth.find(source('/data/c/0.jpg'))['id'] == 0
    assert truth.find(source('/data/d/0.jpg')) is None  # another image has it
    assert (truth.next_id, truth.category_ids) == (2, {'disc': 1, 'ring': 8})


def test_objects(changed, capsys):
    def add(content):
        content['categories'].append({'id': 5, 'name': 'cloud'})
        content['annotations'].append({**content['annotations'][0], 'id': 9, 'category_id': 5})

    truth = CocoTruth(changed(add), NAMES)
    assert 'the model has no class cloud; left out' in capsys.readouterr().err
    found = truth.read(truth.find(source('/0.jpg')), (32, 32))
    assert found.boxes.tolist() == [[2, 2, 22, 22]]
    assert (found.labels.tolist(), found.scores.tolist()) == ([0], [1])
    assert np.argwhere(found.masks[0]).min() == 2


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda c: c['images'][0].pop('file_name'), "is no COCO file: KeyError 'file_name'"),
        (lambda c: c.pop('categories'), "is no COCO file: KeyError 'categories'"),
        (lambda c: c['categories'].clear(), 'has none of the classes of the model: disc, ring'),
        (lambda c: c['annotations'][0].pop('bbox'), "image id 0, is broken: KeyError 'bbox'"),
        (lambda c: c['annotations'][0].update(bbox=[1]), 'image id 0, is broken: ValueError'),
        (lambda c: c['images'][0].update(width=16), 'lists it as 16 x 32, but it is 32 x 32'),
    ],
)
def test_broken_files_are_one_line(changed, change, says):
    def read(path):
        truth = CocoTruth(path, NAMES)
        return truth.read(truth.find(source('/0.jpg')), (32, 32))

    path = changed(change)
    with pytest.raises(InputError) as caught:
        read(path)
    assert says in str(caught.value)
    assert '\n' not in str(caught.value)
