"""Public data sets in their own layouts, with tiny images, become those of the configs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmca.cli.main import main
from tools.public_data.camvid import SPLITS
from tools.public_data.penn_fudan import split_of
from tests.helpers import write_image

SHARED = Path(__file__).parents[3] / 'shared/data'


@pytest.fixture
def camvid(tmp_path):
    for split, (_, number) in SPLITS.items():
        for i in range(number):
            write_image(tmp_path / f'CamVid/{split}/{i:04}.png', np.full((6, 8, 3), 200))
            labels = np.arange(48).reshape(6, 8) % 12
            write_image(tmp_path / f'CamVid/{split}annot/{i:04}.png', labels)
    return tmp_path / 'CamVid'


@pytest.fixture
def penn_fudan(tmp_path):
    names = [f'FudanPed{i:05}' for i in range(1, 75)] + [f'PennPed{i:05}' for i in range(1, 97)]
    mask = np.zeros((10, 12))
    mask[2:5, 3:9] = 1
    mask[6:9, 1:4] = 2
    for name in names:
        write_image(tmp_path / f'PennFudanPed/PNGImages/{name}.png', np.full((10, 12, 3), 90))
        write_image(tmp_path / f'PennFudanPed/PedMasks/{name}_mask.png', mask)
    return tmp_path / 'PennFudanPed'


def test_camvid(camvid, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path / 'data'))
    assert main(['prepare-data', 'camvid', str(camvid)]) == 0
    assert '367 train, 101 val, 233 test' in capsys.readouterr().out
    root = tmp_path / 'data/camvid'
    for folder, number in SPLITS.values():
        assert len(list((root / 'images' / folder).glob('*.jpg'))) == number
        assert len(list((root / 'annotations' / folder).glob('*.png'))) == number
    labels = np.array(Image.open(root / 'annotations/validation/0000.png'))
    assert labels.ravel()[:13].tolist() == [*range(11), 255, 0]


def test_penn_fudan(penn_fudan, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['prepare-data', 'penn_fudan', str(penn_fudan), '--out', str(out)]) == 0
    assert '100 train, 30 val, 40 test' in capsys.readouterr().out
    coco = COCO(out / 'val.json')
    assert len(coco.imgs) == len(list((out / 'val').glob('*.jpg'))) == 30
    first, second = coco.loadAnns(coco.getAnnIds(1))
    assert (first['bbox'], first['area']) == ([3, 2, 6, 3], 18)
    assert coco.annToMask(second)[6:9, 1:4].all()
    assert coco.annToMask(second).sum() == 9


@pytest.mark.skipif(not SHARED.exists(), reason='needs the real data')
def test_the_split_is_that_of_the_data_at_hand():
    for split in ('train', 'val'):
        content = json.loads((SHARED / f'penn_fudan/{split}.json').read_text())
        names = [Path(image['file_name']).stem for image in content['images']]
        assert {split_of(name) for name in names} == {split}


def test_bad_sources_are_one_line(camvid, penn_fudan, tmp_path, fail):
    assert 'no such folder: gone' in fail('prepare-data', 'camvid', 'gone')
    full = tmp_path / 'full'
    full.mkdir()
    (full / 'file').touch()
    assert 'is not empty' in fail('prepare-data', 'camvid', camvid, '--out', full)
    out = tmp_path / 'out'
    text = fail('prepare-data', 'camvid', penn_fudan, '--out', out)
    assert 'has 0 .png files, the data set has 367' in text
    (camvid / 'valannot/0000.png').write_bytes(b'damaged')
    assert 'valannot/0000.png' in fail('prepare-data', 'camvid', camvid, '--out', out)
