"""AP of a detector in tiles and as a file."""

import re

import pytest

from experiments.__main__ import main
from experiments.detectors import average_precision, labeled_images
from mmca.inference import Predictor
from mmca.inference.writers import DetectionTable
from tests.helpers import needs_new_torch, write_coco
from tests.inference.trained import CLASSES, tiny_detector

LINE = re.compile(r'^(.+): (box / mask AP .* objects), .*s', re.MULTILINE)


@pytest.fixture(scope='module')
def many(tmp_path_factory):
    """A detector with 16 test images."""
    folder = tmp_path_factory.mktemp('many')
    trained = tiny_detector(folder)
    write_coco(folder / 'data', 'val', 16, CLASSES)
    return trained


def test_tiles_that_are_photographs_find_what_the_photographs_give(many, tmp_path, capsys):
    argv = ['tiles', many.config, many.checkpoint, '--tile', '32', '--overlaps', '0']
    assert main([*argv, '--work-dir', str(tmp_path)]) == 0
    found = dict(LINE.findall(capsys.readouterr().out))
    assert list(found) == ['photographs alone', 'mosaics, overlap 0.0', 'mosaics, no tiles']
    alone, tiled, whole = found.values()
    assert alone == tiled != whole


@needs_new_torch
@pytest.mark.slow
def test_an_exported_detector_has_the_ap_of_the_model(many, tmp_path, capsys):
    pytest.importorskip('onnxscript')
    assert main(['exported', many.config, many.checkpoint, '--work-dir', str(tmp_path)]) == 0
    found = dict(LINE.findall(capsys.readouterr().out))
    assert found.keys() == {'PyTorch', 'the file'}
    assert found['PyTorch'] == found['the file']


def test_perfect_detections_have_a_precision_of_one(many, tmp_path):
    predictor = Predictor(many.config, many.checkpoint, 'cpu')
    truth, images = labeled_images(predictor)
    table = DetectionTable(predictor.names, truth)
    for _, entry in images:
        objects, shape = truth.read(entry)
        table.add(shape, objects, id=entry['id'], file_name=entry['file_name'])
    table.write(tmp_path / 'found.json')
    expected = 'box / mask AP 100.000 / 100.000, 16 objects'
    assert average_precision(many.ann, tmp_path / 'found.json') == expected
