"""Every malformed data set of the corpus, before training and testing and in their data workers."""

import argparse
import shutil
from functools import cache

import numpy as np
import pytest
from mmca.checks.coco_file import rle_pixels
from mmca.checks.guard import GuardedPipeline, classes_of, guard
from PIL import Image
from torch.utils.data import DataLoader

from mmca.checks import check, sample
from mmca.cli.main import guarded, main
from mmca.config.reader import library_of, load_config
from mmca.errors import InputError
from tests.helpers import error_line
from tests.stress.good_data import HEIGHT, WIDTH, Files, write_config, write_good
from tests.stress.malformed import CASES, LATE, case_of


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A data set without faults and its config, by kind; made once."""

    @cache
    def make(kind):
        if kind == 'folders':
            pytest.importorskip('mmpretrain')
        root = tmp_path_factory.mktemp(kind) / 'good'
        root.mkdir()
        write_good(root, kind)
        cfg = load_config(str(write_config(root, kind)))
        return root, cfg, library_of(cfg, 'tiny.py')

    return make


@pytest.fixture
def checked(good, tmp_path, capsys):
    """Check a changed copy of a good data set; returns the findings and what is on stderr."""

    def run(kind, tool, change):
        source, cfg, library = good(kind)
        root = shutil.copytree(source, tmp_path / 'data')
        split = Files(root / 'images' / tool, root / f'{tool}.json', root / 'maps' / tool)
        if kind == 'folders':
            split = Files(split.images / 'date', split.json, split.maps)
        change(split)
        cfg = type(cfg)(cfg._cfg_dict.to_dict(), cfg_text=cfg.text)
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            cfg[loader].dataset.data_root = str(root)
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(root / 'test.json')
        args = argparse.Namespace(config='tiny.py', checkpoint='http://x/y.pth', resume=None)
        try:
            found = check(tool, args, cfg, library, str(tmp_path / 'work'))
        except InputError as error:
            return None, f'error: {error}'
        return found, capsys.readouterr().err

    return run


def tools_of_cases():
    """Cases with the tool to run: both where they differ, one in turn elsewhere."""
    for index, case in enumerate(CASES):
        differ = case.test_outcome is not None
        for tool in ('train', 'test') if differ else (('train', 'test')[index % 2],):
            yield pytest.param(case, tool, id=f'{case.kind}-{case.name}-{tool}')


@pytest.mark.parametrize(('case', 'tool'), tools_of_cases())
def test_each_is_an_error_or_a_warning(checked, case, tool):
    found, err = checked(case.kind, tool, case.change)
    outcome = case.outcome_of(tool)
    lines = [line for line in err.splitlines() if line.startswith(('warning: ', 'error: '))]
    assert (found is None) == (outcome == 'error'), err
    if outcome:
        assert any(case.words in line for line in lines if line.startswith(outcome)), err
    else:
        assert lines == []


@pytest.mark.parametrize('tool', ['train', 'test'])
@pytest.mark.parametrize('kind', ['coco', 'ade', 'folders'])
def test_good_data_are_silent(checked, kind, tool):
    found, err = checked(kind, tool, lambda files: None)
    assert found.splits[0].images > 0
    assert err == ''


@pytest.fixture
def late(checked, monkeypatch):
    """A data set whose files nobody has looked into, with one of them damaged, guarded."""

    def make(kind, name):
        monkeypatch.setattr(sample, '_look_into_some', lambda split, infos: None)
        found, _ = checked(kind, 'train', case_of(kind, name).change)
        dataset = found.splits[0].dataset
        guard(dataset)
        return dataset

    return make


@pytest.mark.parametrize(('kind', 'name'), LATE[::2])
def test_in_a_data_worker_one_line_names_the_file(late, capsys, kind, name):
    loader = DataLoader(late(kind, name), batch_size=1, num_workers=1, collate_fn=list)
    assert guarded(lambda: len(list(loader)) * 0) == 2
    line = error_line(capsys.readouterr().err)
    assert any(file in line for file in ('/2.jpg', '/2.png'))
    assert 'DataLoader' not in line


def test_other_faults_of_a_pipeline_keep_their_traceback(late):
    dataset = late('coco', 'no iscrowd')

    def broken(data):
        raise ZeroDivisionError

    pipeline = GuardedPipeline([broken], classes_of(dataset))
    with pytest.raises(ZeroDivisionError):
        pipeline({'img_path': 'a.jpg'})


def test_images_lists_all_that_cannot_be_used(tmp_path, capsys):
    splits = write_good(tmp_path, 'ade')
    train = splits['train']
    for index in (1, 3):
        path = train.images / f'{index}.jpg'
        path.write_bytes(path.read_bytes()[:-40])
    Image.fromarray(np.full((HEIGHT, WIDTH), 9, np.uint8)).save(train.maps / '2.png')
    (splits['test'].images / '5.jpg').write_bytes(b'')
    cmyk = train.images / '4.jpg'
    Image.open(cmyk).convert('CMYK').save(cmyk)
    config = write_config(tmp_path, 'ade')
    assert main(['check', str(config)]) == 2
    assert '1.jpg' in error_line(capsys.readouterr().err)  # the first alone
    assert main(['check', str(config), '--images']) == 2
    out, err = capsys.readouterr()
    for place in ('train/1.jpg', 'train/3.jpg', 'train/2.png has label 8 in 3072', 'test/5.jpg'):
        assert place in out
    assert '1 of the 6 images are CMYK' in err
    assert '4 of 12 images cannot be used, see above: 3 of train_dataloader.dataset' in err


def test_images_of_a_good_data_set(tmp_path, capsys):
    write_good(tmp_path, 'coco', number=3)
    assert main(['check', str(write_config(tmp_path, 'coco')), '--images']) == 0
    assert 'val_dataloader.dataset' in capsys.readouterr().out


def test_options_for_boxes_alone_work(tmp_path, capsys):
    splits = write_good(tmp_path, 'coco', number=2)
    for split in splits.values():
        case_of('coco', 'boxes without masks').change(split)
    config = str(write_config(tmp_path, 'coco'))
    assert main(['check', config]) == 2
    line = error_line(capsys.readouterr().err)
    options = line.split('--cfg-options ')[1].split()
    assert main(['check', config, '--cfg-options', *options]) == 0


@pytest.mark.parametrize('density', [0.0, 0.01, 0.5, 1.0])
def test_runs_of_a_mask_add_up_to_its_pixels(density):
    from pycocotools import mask

    values = np.random.default_rng(0).random((97, 1031)) < density
    rle = mask.encode(np.asfortranarray(values, dtype=np.uint8))
    assert rle_pixels(rle['counts'].decode()) == values.size
