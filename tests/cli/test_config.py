"""mmca config: listing, finding, printing, copying and inheriting from shipped configs."""

import json
import shlex
from pathlib import Path

import pytest
from mmengine.config import Config

from mmca.config import adapt
from mmca.config.reader import load_config, read_config
from mmca.config.shipped import config_names
from mmca.engine import Runner
from tests.config import folders
from tests.helpers import CONFIGS, slow

NAME = 'coco/maskrcnn_ca_pvt_s'


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMCA_DATA_ROOT', raising=False)


def rows_of(listing):
    return [line.split() for line in listing.splitlines() if '/' in line.split(' ')[0]]


def test_the_list_has_every_config_with_its_backbone_and_published_figures(out):
    rows = rows_of(out('config', '--list'))
    assert sorted(row[0] for row in rows) == config_names()
    assert rows[0][0].startswith('coco/')
    (row,) = [row for row in rows if row[0] == NAME]
    assert ' '.join(row[1:]) == 'Mask R-CNN CA-PVT-S 42.38 268.9 box AP 44.2, mask AP 40.7'


def test_a_word_filters_the_list(out, fail):
    number = sum('ca_swin' in name for name in config_names())
    assert len(rows_of(out('config', '--list', 'CA-Swin'))) == number
    assert "no shipped config has 'swim' in its name" in fail('config', '--list', 'swim')


def test_path(out):
    assert out('config', NAME) == f'{CONFIGS / NAME}.py\n'


@pytest.mark.parametrize('root', [None, '/disk'])
def test_print_merges_bases_and_options(root, out, monkeypatch):
    if root:
        monkeypatch.setenv('MMCA_DATA_ROOT', root)
    text = out('config', NAME, '--print', '--cfg-options', 'train_cfg.max_epochs=3')
    cfg = Config.fromstring(text, '.py')  # which notes of mmengine on stdout would break
    assert cfg.train_cfg.max_epochs == 3
    assert cfg.model.backbone.arch == 'small'
    assert cfg.train_dataloader.dataset.data_root == f'{root or "data"}/coco'


def test_a_copy_stands_alone_and_follows_the_data_root(out, tmp_path, monkeypatch):
    said = out('config', NAME, '--copy', 'own.py', '--cfg-options', 'model.backbone.arch=tiny')
    assert said == 'wrote own.py; train it with: mmca train own.py\n'
    text = (tmp_path / 'own.py').read_text()
    assert '_base_' not in text
    assert str(CONFIGS) not in text
    copy, original = Config.fromfile('own.py'), read_config(NAME)
    original.model.backbone.arch = 'tiny'
    assert copy.to_dict() == original.to_dict()
    monkeypatch.setenv('MMCA_DATA_ROOT', '/disk')
    assert Config.fromfile('own.py').val_evaluator.ann_file.startswith('/disk/coco/')


def test_a_starter_inherits_and_changes_nothing_by_itself(out, tmp_path):
    out('config', NAME, '--inherit', 'own.py')
    text = (tmp_path / 'own.py').read_text()
    assert text.startswith(f"_base_ = __import__('mmca').find_config('{NAME}')\n")
    # mmengine alone reads it, as other tools do.
    assert Config.fromfile('own.py').to_dict() == read_config(NAME).to_dict()
    (tmp_path / 'own.py').write_text(text.replace('batch_size=2', 'batch_size=7'))
    assert read_config('own.py').train_dataloader.batch_size == 7


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        ([], 'name a config, or use --list'),
        (['coco/maskrcnn_ca_pvt_xx'], 'closest names: coco/maskrcnn_ca_pvt_'),
        ([NAME, '--copy', 'own.txt'], 'own.txt: the name of a config must end in .py'),
        ([NAME, '--copy', 'there.py'], 'there.py exists already: choose another name'),
        ([NAME, '--copy', 'no/own.py'], 'cannot write no/own.py: No such file or directory'),
        (['there.py', '--inherit', 'own.py'], 'there.py is not a shipped config'),
        ([NAME, '--cfg-options', 'a=1'], '--cfg-options requires --print or --copy'),
        (['--list', '--backbone', 'pvt_t'], '--backbone requires --data'),
        (['--data', '.', '--cfg-options', 'a=1'], '--cfg-options requires --print or --copy'),
        ([NAME, '--data', '.'], '--data chooses a config'),
        ([NAME, '--list'], '--list lists all configs; use --list WORD'),
        ([NAME, '--backbone', 'pvt_t', '--copy', 'a.py'], '--copy has no effect with --backbone'),
        ([NAME, '--backbone', 'pvt_t', '--print'], '--print has no effect with --backbone'),
    ],
)
def test_bad_input_is_one_line(fail, tmp_path, argv, expected):
    (tmp_path / 'there.py').write_text('mine = 1\n')
    assert expected in fail('config', *argv)
    assert [path.name for path in tmp_path.iterdir()] == ['there.py']


@pytest.mark.parametrize(
    ('layout', 'device', 'flags'),
    [
        (folders.as_coco, 'cpu', ''),
        (folders.as_coco, 'cuda', ' --amp --auto-scale-lr'),
        (folders.as_ade, 'cuda', ' --amp --cfg-options auto_scale_lr.enable=True'),
    ],
)
def test_a_config_for_a_folder_is_checked_and_reported(layout, device, flags, out, tmp_path):
    layout(tmp_path / 'fruits')
    said = out('config', '--data', 'fruits', '--device', device)
    assert f'\n  mmca train fruits.py{flags}\n  mmca test fruits.py work_dirs/fruits/' in said
    rows = [line.split()[:2] for line in said.splitlines()]
    number = '3' if layout is folders.as_coco else '2'
    assert ['train', number] in rows
    assert ['val', '2'] in rows
    assert ('note: the classes have no names' in said) == (layout is folders.as_ade)


def test_numbers_as_names_and_a_class_that_validation_lacks(out, tmp_path):
    folders.as_coco(tmp_path / 'fruits')
    for split, other in (('train', '"date"'), ('val', '7')):
        file = tmp_path / f'fruits/annotations/instances_{split}2017.json'
        file.write_text(file.read_text().replace('"fig"', '7').replace('"date"', other))
    said = out('config', '--data', 'fruits', '--device', 'cpu')
    assert [line.split() for line in said.splitlines() if line.startswith(('7 ', 'date '))] == [
        ['7', '3', '2'],
        ['date', '0', '0'],
    ]


def test_printed_commands_can_be_typed(out, tmp_path):
    folders.as_mixed(tmp_path / 'Fruits and Nuts.v1i')
    said = out('config', '--data', 'Fruits and Nuts.v1i', '--device', 'cuda', '--out', 'my nuts.py')
    train, test, predict = (shlex.split(line) for line in said.splitlines()[-3:])
    assert train[:3] == ['mmca', 'train', 'my nuts.py']
    assert test[3].startswith('work_dirs/my nuts/iter_')
    assert predict[4] == 'Fruits and Nuts.v1i/images/val'


def test_a_config_that_fails_its_checks_is_removed(tmp_path, refused):
    folders.as_one_file(tmp_path / 'fruits')
    for image in (tmp_path / 'fruits/images').iterdir():
        image.write_bytes(b'')
    assert 'the file is empty' in refused('config', '--data', 'fruits', '--device', 'cpu')
    assert [path.name for path in tmp_path.iterdir()] == ['fruits']


@pytest.mark.parametrize(
    ('layout', 'model'),
    [
        (folders.as_coco, 'fasterrcnn'),
        (folders.as_mixed, 'fpn'),
        *slow((folders.as_coco, 'maskrcnn'), (folders.as_coco, 'retinanet')),
        *slow((folders.as_coco, 'cascade_maskrcnn')),
    ],
)
def test_a_written_config_trains_tests_and_predicts(layout, model, out, forget, tmp_path, capsys):
    layout(tmp_path / 'fruits')
    options = ['--model', model, '--device', 'cpu', '--epochs', '1', '--size', '64', '64']
    out('config', '--data', 'fruits', *options)
    if layout is folders.as_coco:  # an untrained model must find something
        test_cfg = {'score_thr': 0.0} if model == 'retinanet' else {'rcnn': {'score_thr': 0.0}}
        with open('fruits.py', 'a') as file:
            file.write(f'model.update(test_cfg={test_cfg})\n')
    cfg = load_config('fruits.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.work_dir = 'work'
    forget()
    capsys.readouterr()
    Runner.from_cfg(cfg).train()
    start, progress, _ = capsys.readouterr().out.partition('(train)')
    assert progress
    assert start.count('\n') < 40
    assert 'index' not in start  # pycocotools' "creating index..."
    (log,) = Path('work').glob('*/*.log')
    assert all(part in log.read_text() for part in ('System environment', 'Config:', 'CheckHook'))
    (checkpoint,) = map(str, Path('work').glob('[ei]*_1.pth'))
    assert list(Path('work').glob('best_*_1.pth'))
    forget()
    cfg.load_from = checkpoint
    metrics = Runner.from_cfg(cfg).test()
    if layout is not folders.as_coco:  # as `mmca test --tta`
        forget()
        pipeline = cfg.tta_pipeline
        datasets = cfg.test_dataloader.dataset.get('datasets', [cfg.test_dataloader.dataset])
        for dataset in datasets:
            dataset.pipeline = pipeline
        cfg.tta_model.module, cfg.model = cfg.model, cfg.tta_model
        assert Runner.from_cfg(cfg).test()['mIoU'] > 0
    if layout is folders.as_coco:
        assert {'coco/bbox_mAP', 'coco/segm_mAP'} - metrics.keys() == (
            set() if 'mask' in model else {'coco/segm_mAP'}
        )
    images = next((tmp_path / 'fruits').rglob('*.jpg')).parent
    out('predict', 'fruits.py', checkpoint, images, '--out', 'found')
    drawn = {path.stem for path in Path('found/images').glob('*.jpg')}
    assert drawn == {path.stem for path in images.iterdir()}
    if layout is folders.as_coco:
        objects = json.loads(Path('found/predictions.json').read_text())['annotations']
        assert all(('segmentation' in item) == ('mask' in model) for item in objects)
        assert objects


DINO = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'


def test_another_backbone_in_any_config(out, fail):
    said = out('config', DINO, '--backbone', 'ca_pvt_t', '--out', 'dino.py')
    assert '2048 at stride 32 -> ' in said
    assert 'mmca train dino.py' in said
    assert len(Path('dino.py').read_text().splitlines()) < 20
    assert read_config('dino.py').model == adapt(read_config(DINO), 'ca_pvt_t').model
    # In the user's own config, too, from another folder.
    Path('other').mkdir()
    again = ['config', 'dino.py', '--backbone', 'swin_t', '--out', 'other/swin.py']
    out(*again)
    assert read_config('other/swin.py').model.neck.in_channels == [192, 384, 768]
    assert 'exists already' in fail(*again)


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        ((DINO, '--backbone', 'ca_pvt_x'), "unknown backbone 'ca_pvt_x': choose from ca_pvt_"),
        (('mmdet::dino/dino-4scale_r5', '--backbone', 'pvt_t'), 'closest names: mmdet::dino/'),
        (('mmpose::x', '--backbone', 'pvt_t'), 'mmpose:: is not an installed library'),
        ((DINO, '--out', 'x.py'), '--out requires --data, or CONFIG and --backbone'),
        ((DINO, '--keep-recipe'), '--keep-recipe requires CONFIG and --backbone'),
    ],
)
def test_another_backbone_needs_both_names(arguments, problem, tmp_path, fail):
    assert problem in fail('config', *arguments)
    assert not list(tmp_path.iterdir())
