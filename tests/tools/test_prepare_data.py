"""tools/prepare_data.py converts public data sets, here with tiny images."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.commands import run_script
from tests.helpers import ROOT, write_image
from tools.public_data.camvid import SPLITS
from tools.public_data.penn_fudan import split_of

SHARED = ROOT.parent / 'shared/data'
prepare = partial(run_script, 'prepare_data.py')


@pytest.fixture
def camvid(tmp_path):
    labels = np.arange(48).reshape(6, 8) % 12
    for split, (_, number) in SPLITS.items():
        for i in range(number):
            write_image(tmp_path / f'CamVid/{split}/{i:04}.png', np.full((6, 8, 3), 200))
            write_image(tmp_path / f'CamVid/{split}annot/{i:04}.png', labels)
    return tmp_path / 'CamVid'


@pytest.fixture
def penn_fudan(tmp_path):
    names = [f'FudanPed{i:05}' for i in range(1, 75)] + [f'PennPed{i:05}' for i in range(1, 97)]
    mask = np.zeros((10, 12))
    mask[2:5, 3:9], mask[6:9, 1:4] = 1, 2
    for name in names:
        write_image(tmp_path / f'PennFudanPed/PNGImages/{name}.png', np.full((10, 12, 3), 90))
        write_image(tmp_path / f'PennFudanPed/PedMasks/{name}_mask.png', mask)
    return tmp_path / 'PennFudanPed'


def test_camvid(camvid, tmp_path):
    assert '367 train, 101 val, 233 test' in prepare('camvid', camvid, root=tmp_path / 'data')
    root = tmp_path / 'data/camvid'
    for folder, number in SPLITS.values():
        assert len(list((root / 'images' / folder).glob('*.jpg'))) == number
        assert len(list((root / 'annotations' / folder).glob('*.png'))) == number
    labels = np.array(Image.open(root / 'annotations/validation/0000.png'))
    assert labels.ravel()[:13].tolist() == [*range(11), 255, 0]
    assert 'is not empty' in prepare('camvid', camvid, '--out', root)
    (camvid / 'valannot/0000.png').write_bytes(b'damaged')
    assert 'valannot/0000.png' in prepare('camvid', camvid, '--out', tmp_path / 'again')


def test_penn_fudan(penn_fudan, tmp_path):
    out = tmp_path / 'out'
    assert '100 train, 30 val, 40 test' in prepare('penn_fudan', penn_fudan, '--out', out)
    coco = COCO(out / 'val.json')
    assert len(coco.imgs) == len(list((out / 'val').glob('*.jpg'))) == 30
    first, second = coco.loadAnns(coco.getAnnIds(1))
    assert (first['bbox'], first['area']) == ([3, 2, 6, 3], 18)
    assert coco.annToMask(second)[6:9, 1:4].sum() == coco.annToMask(second).sum() == 9
    assert 'has 0 .png files' in prepare('camvid', penn_fudan, '--out', tmp_path / 'other')
    assert 'no such folder: gone' in prepare('camvid', 'gone')


@pytest.mark.skipif(not SHARED.exists(), reason='needs the real data')
def test_the_split_matches_the_data_at_hand():
    for split in ('train', 'val'):
        content = json.loads((SHARED / f'penn_fudan/{split}.json').read_text())
        names = [Path(image['file_name']).stem for image in content['images']]
        assert {split_of(name) for name in names} == {split}
