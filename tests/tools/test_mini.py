"""The synthetic data set: its layouts valid and in agreement, reproducible, safe to rerun."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmca.cli.main import main
from tools.mini import STUFF, THINGS, drawing, layouts, make_mini
from mmca.errors import InputError
from tests.helpers import ROOT

COUNTS = {'train': 30, 'val': 15}
ADE_NAMES = {'train': 'training', 'val': 'validation'}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'mini'
    make_mini(out, **COUNTS)
    return out


@pytest.fixture(params=['train', 'val'])
def split(request) -> str:
    return request.param


@pytest.fixture
def coco(data, split) -> COCO:
    return COCO(data / f'coco/annotations/{split}.json')


def labels_of(data: Path, split: str, index: int) -> np.ndarray:
    path = data / f'ade/annotations/{ADE_NAMES[split]}/{index:06d}.png'
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_coco_annotations_are_consistent(data, split, coco):
    assert sorted(coco.dataset) == ['annotations', 'categories', 'images', 'info', 'licenses']
    assert [c['name'] for c in coco.loadCats(range(1, 6))] == list(THINGS)
    assert sorted(coco.imgs) == list(range(COUNTS[split]))
    assert len(coco.anns) == len(coco.dataset['annotations'])
    assert {a['category_id'] for a in coco.anns.values()} == set(range(1, 6))
    for image in coco.imgs.values():
        pixels = cv2.imread(str(data / 'coco' / split / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3) == (128, 160, 3)
        assert 2 <= len(coco.getAnnIds(image['id'])) <= 6
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        y, x = mask.nonzero()
        box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert annotation['bbox'] == box
        assert annotation['area'] == mask.sum()
        assert annotation['iscrowd'] == 0


def test_ade_labels_agree_with_instances(data, split, coco):
    seen = set()
    for index in coco.imgs:
        labels = labels_of(data, split, index)
        assert labels.dtype == np.uint8
        assert labels.shape == (128, 160)
        things = np.zeros_like(labels)
        for annotation in coco.imgToAnns[index]:
            mask = coco.annToMask(annotation) > 0
            assert not things[mask].any(), 'visible masks overlap'
            things[mask] = annotation['category_id']
        assert np.array_equal(np.where(labels <= len(THINGS), labels, 0), things)
        assert (labels == 0).mean() < 0.05
        seen |= set(np.unique(labels))
    assert seen == set(range(len(THINGS + STUFF) + 1))


def test_both_layouts_hold_the_same_images(data, split):
    assert files(data / 'coco' / split) == files(data / 'ade/images' / ADE_NAMES[split])


def test_things_are_cut_and_vary_in_scale(data):
    coco = COCO(data / 'coco/annotations/train.json')
    boxes = np.array([a['bbox'] for a in coco.anns.values()])
    cut = (boxes[:, :2] == 0).any(1) | (boxes[:, :2] + boxes[:, 2:] == (160, 128)).any(1)
    assert 0.1 < cut.mean() < 0.7
    sides = np.sqrt(boxes[~cut, 2:].prod(1))
    assert sides.max() > 2.5 * sides.min()


def test_portraits_lie_in_folders_of_classes(data, split):
    root = data / 'imagenet' / split
    assert sorted(path.name for path in root.iterdir()) == sorted(THINGS)
    paths = sorted(root.rglob('*.png'), key=lambda path: path.name)
    assert len(paths) == layouts.PORTRAITS * COUNTS[split]
    # mmpretrain names the images that it draws by these names alone.
    assert [path.name for path in paths] == [f'{i:06d}.png' for i in range(len(paths))]
    for index, path in enumerate(paths):
        assert path.parent.name == THINGS[index % 5]
        assert cv2.imread(str(path)).shape == (64, 64, 3)


def test_things_of_portraits_are_as_large_as_the_others_and_partly_hidden(monkeypatch):
    light = np.array([1.0, 0.0])
    areas = [
        drawing.draw_thing(np.random.default_rng(5), 'star', shape, light, scale)[3]
        for shape, scale in (((64, 64), 2.0), ((128, 128), 1.0))
    ]
    assert areas[0] == pytest.approx(areas[1])

    things, borders = [], []
    draw_thing, draw_border = drawing.draw_thing, drawing.draw_border

    def record_thing(*args, **kwargs):
        things.append(draw_thing(*args, **kwargs))
        return things[-1]

    def record_border(*args):
        borders.append(draw_border(*args))
        return borders[-1]

    monkeypatch.setattr(drawing, 'draw_thing', record_thing)
    monkeypatch.setattr(drawing, 'draw_border', record_border)
    number = 40
    hidden, covered = 0, 0
    for index in range(number):
        borders.clear()
        drawing.draw_portrait((0, 2, index), 'square', 64)
        _, cover, _, area = things[-1]
        seen = cover > 0.5
        if len(borders) > 1:  # the first is the ground's
            hidden += 1
            covered += bool((seen & (borders[-1] > 0.5)).any())
            seen &= borders[-1] < 0.5
        assert seen.sum() >= 0.3 * area
    assert 0.3 < hidden / number < 0.7
    assert covered > hidden / 3


def test_a_portrait_is_of_the_class_of_its_folder(data, monkeypatch):
    drawn = []
    draw_thing = drawing.draw_thing
    monkeypatch.setattr(
        drawing, 'draw_thing', lambda *a, **k: drawn.append(a[1]) or draw_thing(*a, **k)
    )
    for split, stream in (('train', 2), ('val', 3)):
        for index in range(5):
            drawn.clear()
            image = drawing.draw_portrait((0, stream, index), THINGS[index], 64)
            assert set(drawn) == {THINGS[index]}
            path = data / 'imagenet' / split / THINGS[index] / f'{index:06d}.png'
            assert np.array_equal(cv2.imread(str(path)), image)


def test_splits_share_no_image(data):
    train, val = (set(files(data / 'coco' / name).values()) for name in COUNTS)
    assert (len(train), len(val), len(train | val)) == (30, 15, 45)
    train, val = (set(files(data / 'imagenet' / name).values()) for name in COUNTS)
    assert (len(train), len(val), len(train | val)) == (120, 60, 180)


def test_an_image_depends_on_seed_split_and_index_only(data, tmp_path):
    make_mini(tmp_path / 'few', train=3, val=2)
    make_mini(tmp_path / 'again', train=3, val=2)
    make_mini(tmp_path / 'other', train=3, val=2, seed=1)
    few = files(tmp_path / 'few')
    assert few == files(tmp_path / 'again')
    many, other = files(data), files(tmp_path / 'other')
    images = [name for name in few if not name.endswith('.json')]
    assert len(images) == (3 + layouts.PORTRAITS) * (3 + 2)
    assert all(few[name] == many[name] != other[name] for name in images)


def test_mmdet_reads_the_masks(data, coco, split):
    datasets = pytest.importorskip('mmdet.datasets')
    dataset = datasets.CocoDataset(
        data_root=str(data / 'coco'),
        ann_file=f'annotations/{split}.json',
        data_prefix=dict(img=split),
        metainfo=dict(classes=THINGS),
        pipeline=[
            dict(type='mmdet.LoadImageFromFile'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
        ],
    )
    assert len(dataset) == COUNTS[split]
    for index in range(3):
        found = dataset[index]
        expected = [coco.annToMask(a) for a in coco.imgToAnns[found['img_id']]]
        assert np.array_equal(found['gt_masks'].to_ndarray(), expected)


def test_the_same_data_set_is_not_written_again(tmp_path, capsys):
    command = [
        'make-mini',
        '--out',
        str(tmp_path / 'mini'),
        '--train',
        '1',
        '--val',
        '1',
        '--size',
        '96',
        '64',
    ]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith('mini data set in ')
    image = tmp_path / 'mini/coco/train/000000.jpg'
    assert cv2.imread(str(image)).shape == (64, 96, 3)
    written = image.stat().st_mtime_ns
    assert main(command) == 0
    assert 'holds this data set already' in capsys.readouterr().out
    assert image.stat().st_mtime_ns == written


def test_a_synthetic_data_set_is_replaced_by_force_only(tmp_path):
    make_mini(tmp_path, train=2, val=1, size=(64, 64))
    (tmp_path / 'notes.txt').write_text('mine')
    before = files(tmp_path)
    with pytest.raises(InputError, match=r'another synthetic data set: --force'):
        make_mini(tmp_path, train=1, val=1, size=(64, 64))
    assert files(tmp_path) == before
    make_mini(tmp_path, train=1, val=1, size=(64, 64), force=True)
    after = files(tmp_path)
    assert after['notes.txt'] == b'mine'
    assert [name for name in after if name.startswith('coco/train')] == ['coco/train/000000.jpg']


@pytest.mark.parametrize('force', [False, True])
def test_what_was_not_written_here_is_never_touched(tmp_path, force):
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco/photo.jpg').write_bytes(b'real')
    with pytest.raises(InputError, match='holds something else'):
        make_mini(tmp_path, train=1, val=1, size=(64, 64), force=force)
    assert files(tmp_path) == {'coco/photo.jpg': b'real'}


def test_an_interrupted_run_is_started_afresh(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(layouts.json, 'dumps', interrupt)
        with pytest.raises(KeyboardInterrupt):
            layouts.write_split(tmp_path / '.unfinished', 0, 2, (64, 64), 0)
    assert files(tmp_path)
    make_mini(tmp_path, train=1, val=1, size=(64, 64))
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == ['ade', 'coco', 'imagenet', 'mini.json']


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (['--train', '0'], 'train must be 1 or more, got 0'),
        (['--val', '-3'], 'val must be 1 or more, got -3'),
        (['--seed', '-1'], 'seed must be 0 or more, got -1'),
        (['--size', '100', '64'], 'multiples of 32 .*, got 100 x 64'),
        (['--size', '32', '64'], 'from 64 to 4096, got 32 x 64'),
        (['--out', str(ROOT / 'README.md')], 'is not a folder'),
    ],
)
def test_bad_arguments_give_one_line(option, message, tmp_path, capsys):
    assert main(['make-mini', '--out', str(tmp_path / 'mini'), *option]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert re.fullmatch(f'error: .*{message}.*\n', captured.err)
    assert not (tmp_path / 'mini').exists()
