"""The synthetic data set: valid layouts that agree, reproducible, safe to run again."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmca.errors import InputError
from tests.commands import run_script
from tests.helpers import ROOT
from tools.mini import STUFF, THINGS, make_mini
from tools.mini.layouts import PORTRAITS

COUNTS = {'train': 30, 'val': 15}
ADE_NAMES = {'train': 'training', 'val': 'validation'}
SMALL = dict(train=1, val=1, size=(64, 64))


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'mini'
    make_mini(out, **COUNTS)
    return out


@pytest.fixture(params=['train', 'val'])
def split(request) -> str:
    return request.param


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_coco_annotations_are_consistent(data, split):
    coco = COCO(data / f'coco/annotations/{split}.json')
    assert [c['name'] for c in coco.loadCats(range(1, 6))] == list(THINGS)
    assert sorted(coco.imgs) == list(range(COUNTS[split]))
    assert {a['category_id'] for a in coco.anns.values()} == set(range(1, 6))
    for image in coco.imgs.values():
        pixels = cv2.imread(str(data / 'coco' / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3) == (128, 160, 3)
        assert 2 <= len(coco.getAnnIds(image['id'])) <= 6
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        y, x = mask.nonzero()
        assert annotation['bbox'] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert annotation['area'] == mask.sum()
        assert annotation['iscrowd'] == 0


def test_ade_labels_agree_with_instances(data, split):
    coco = COCO(data / f'coco/annotations/{split}.json')
    assert files(data / 'coco' / split) == files(data / 'ade/images' / ADE_NAMES[split])
    seen = set()
    for index in coco.imgs:
        path = data / f'ade/annotations/{ADE_NAMES[split]}/{index:06d}.png'
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert (labels.dtype, labels.shape) == (np.uint8, (128, 160))
        things = np.zeros_like(labels)
        for annotation in coco.imgToAnns[index]:
            mask = coco.annToMask(annotation) > 0
            assert not things[mask].any(), 'visible masks overlap'
            things[mask] = annotation['category_id']
        assert np.array_equal(np.where(labels <= len(THINGS), labels, 0), things)
        assert (labels == 0).mean() < 0.05
        seen |= set(np.unique(labels))
    assert seen == set(range(len(THINGS + STUFF) + 1))


def test_portraits_are_sorted_by_class(data, split):
    root = data / 'imagenet' / split
    paths = sorted(root.rglob('*.png'), key=lambda path: path.name)
    # mmpretrain names the images that it draws by these names alone.
    assert [path.name for path in paths] == [f'{i:06d}.png' for i in range(len(paths))]
    assert len(paths) == PORTRAITS * COUNTS[split]
    assert all(path.parent.name == THINGS[index % 5] for index, path in enumerate(paths))


def test_an_image_depends_on_seed_split_and_index_only(data, tmp_path):
    make_mini(tmp_path / 'few', train=3, val=2)
    make_mini(tmp_path / 'other', train=3, val=2, seed=1)
    few, many, other = files(tmp_path / 'few'), files(data), files(tmp_path / 'other')
    images = [name for name in few if not name.endswith('.json')]
    assert len(images) == (3 + PORTRAITS) * (3 + 2)
    assert all(few[name] == many[name] != other[name] for name in images)
    for layout, total in (('coco', 45), ('imagenet', 180)):  # no image twice
        drawn = [many[name] for name in many if name.startswith(layout) and 'annot' not in name]
        assert len(drawn) == len(set(drawn)) == total


def test_only_force_replaces_another_synthetic_data_set(tmp_path):
    make_mini(tmp_path, **{**SMALL, 'train': 2})
    (tmp_path / 'notes.txt').write_text('mine')
    before = files(tmp_path)
    with pytest.raises(InputError, match=r'another synthetic data set: --force'):
        make_mini(tmp_path, **SMALL)
    assert files(tmp_path) == before
    make_mini(tmp_path, **SMALL, force=True)
    after = files(tmp_path)
    assert 'coco/train/000001.jpg' in before.keys() - after.keys()
    assert after['notes.txt'] == b'mine'


def test_other_files_stay_and_the_remains_of_an_interrupted_run_go(tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos/photo.jpg').write_bytes(b'real')
    with pytest.raises(InputError, match='is not empty'):
        make_mini(tmp_path / 'photos', **SMALL, force=True)
    assert files(tmp_path) == {'photos/photo.jpg': b'real'}
    half = tmp_path / 'mini/.unfinished/coco/train/000007.jpg'
    half.parent.mkdir(parents=True)
    half.write_bytes(b'half')
    make_mini(tmp_path / 'mini', **SMALL)
    assert not [name for name in files(tmp_path) if '000007' in name or 'unfinished' in name]


def test_the_script_writes_once_and_reports_errors_in_one_line(tmp_path):
    small = ('--train', '1', '--val', '1', '--size', '96', '64')
    text = run_script('make_mini.py', *small, root=tmp_path)
    assert text.startswith(f'mini data set in {tmp_path}/mini: ')
    image = tmp_path / 'mini/coco/train/000000.jpg'
    assert cv2.imread(str(image)).shape == (64, 96, 3)
    written = image.stat().st_mtime_ns
    assert 'already holds this data set' in run_script('make_mini.py', *small, root=tmp_path)
    assert image.stat().st_mtime_ns == written
    text = run_script('make_mini.py', '--out', ROOT / 'README.md')
    assert text == f'error: {ROOT}/README.md is not a folder: choose another --out'
    text = run_script('make_mini.py', '--size', '100', '64', root=tmp_path / 'other')
    assert 'multiples of 32 from 64 to 4096, got 100 x 64' in text
