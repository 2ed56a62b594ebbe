"""`mmca train` and `mmca test` from end to end: the libraries' own tools, in processes."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmca.backbones import CAPVT
from mmca.engine.launch import find_tool, launch
from mmca.errors import InputError
from tests.helpers import (
    CONFIGS,
    ROOT,
    SEG,
    error_line,
    iteration_of,
    needs_mmpretrain,
    python,
    slow,
    write_image,
)
from tests.stress.good_data import write_config, write_good

CLS = str(CONFIGS / 'imagenet/ca_pvt_t.py')
TINY_CAPVT = dict(embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
TINY_CLASSIFIER = f"""
_base_ = {CLS!r}
model = dict(
    data_preprocessor=dict(num_classes=2),
    backbone=dict(_delete_=True, type='mmca.CAPVT', out_indices=(3,), arch={TINY_CAPVT}),
    neck=dict(in_channels=32),
    head=dict(in_channels=32, num_classes=2))
one_process = dict(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=2)
train_dataloader = one_process
val_dataloader = one_process
test_dataloader = one_process
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True)]
"""


def mmca(*words, door=('-m', 'mmca'), cwd=ROOT, status=0):
    """Run a command in a process; returns stdout and stderr."""
    done = python(*door, *words, cwd=cwd)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stdout, done.stderr


@pytest.fixture
def tiny_segmentor(tmp_path):
    """The config of a small segmentor with two images per split, and options."""
    write_good(tmp_path, 'ade', 2)
    every = "train_cfg['val_interval'] = default_hooks['checkpoint']['interval'] = 1"
    config = write_config(tmp_path, 'ade', every)
    return [str(config), '--work-dir', str(tmp_path / 'work'), '--cfg-options']


def test_a_segmentor_trains_resumes_and_is_tested(tiny_segmentor, tmp_path):
    work, images = tmp_path / 'work', tmp_path / 'images'
    out, err = mmca('train', *tiny_segmentor, 'randomness.seed=0')
    assert err == ''
    assert 0 < [' Iter(train) ' in line for line in out.splitlines()].index(True) < 40
    (log,) = work.glob('*/*.log')
    assert 'UserWarning: Default ``avg_non_ignore`` is False' in log.read_text()
    scalars = json.loads(next(work.glob('*/vis_data/scalars.json')).read_text().splitlines()[0])
    assert scalars['images_per_s'] > 0
    assert 10 < scalars['memory'] < 1e6  # MiB
    cfg = Config.fromfile(next(work.glob('*/vis_data/config.py')))
    assert {'checks', 'preemption', 'resume', 'checkpoint'} <= cfg.default_hooks.keys()
    # mmseg's own tool, with a shipped config
    door = [str(find_tool('mmseg', 'train'))]
    out, err = mmca(*tiny_segmentor, 'train_cfg.max_epochs=2', '--resume', door=door)
    assert 'resumed epoch: 1, iter: 1' in out + err
    assert iteration_of(work / 'epoch_2.pth') == 2
    config, *options = tiny_segmentor
    options += ['default_hooks.visualization.interval=1']  # mmseg 1.2 draws every 50th image
    shown = ['--tta', '--show-dir', images]
    out, err = mmca('test', config, work / 'epoch_2.pth', *shown, *options)
    assert 'mIoU' in out + err
    assert 'warning:' not in err
    assert len(list(images.glob('**/*.png'))) == 2


@pytest.mark.parametrize(
    'door', [*slow(find_tool('mmseg', 'train')), ROOT / 'tools/train.py'], ids=str
)
def test_the_same_line_through_every_door(door, tiny_segmentor):
    _, err = mmca(*tiny_segmentor, 'model.backbone.arch=huge', door=[door], status=2)
    assert error_line(err).startswith("error: unknown arch 'huge' of CAPVT; choose from tiny")


@pytest.fixture
def tiny_classifier(tmp_path, monkeypatch):
    """A small classifier with a few images of two classes: its config and options."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('dark', 'light'):
            for i in range(2):
                values = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                values += np.uint8(120 * (name == 'light'))
                write_image(tmp_path / 'imagenet' / split / name / f'{i}.png', values)
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    (tmp_path / 'classifier.py').write_text(TINY_CLASSIFIER)
    return [str(tmp_path / 'classifier.py'), '--work-dir', str(tmp_path / 'work')]


@pytest.mark.slow
@needs_mmpretrain
def test_a_classifier_trains_resumes_and_is_tested(tiny_classifier, tmp_path):
    work = tmp_path / 'work'
    out, err = mmca('train', *tiny_classifier, '--auto-scale-lr')
    assert 'Epoch(val) [1][2/2]    accuracy/top1: ' in out + err
    more = ['--resume', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=2']
    out, err = mmca('train', *tiny_classifier, *more)
    assert 'resumed epoch: 1, iter: 2' in out + err
    assert 'Epoch(val)' not in out + err
    assert iteration_of(work / 'epoch_2.pth') == 4
    config, *options = tiny_classifier
    metrics = ['--out', tmp_path / 'metrics.json', '--out-item', 'metrics']
    drawn = tmp_path / 'drawn'
    mmca('test', config, work / 'epoch_2.pth', *metrics, '--show-dir', drawn, *options)
    names = [path.relative_to(drawn).parts[-2] for path in drawn.rglob('*.png')]
    assert sorted(names) == sorted(2 * ['dark', 'light'])
    assert json.loads((tmp_path / 'metrics.json').read_text()).keys() == {'accuracy/top1'}


@needs_mmpretrain
def test_a_third_party_classifier_is_tested(tiny_classifier, tmp_path):
    """A file in the original names, and its head."""
    model = CAPVT(TINY_CAPVT, out_indices=(3,))
    # The norm leaves its bias alone; the head reads its first channel.
    norm = {'norm.weight': torch.zeros(32), 'norm.bias': torch.eye(32)[0]}
    weights = model.state_dict() | norm
    head = {'head.weight': torch.eye(2, 32), 'head.bias': torch.zeros(2)}
    torch.save({'model': weights | head}, tmp_path / 'third.pth')
    config, *options = tiny_classifier
    argv = [config, tmp_path / 'third.pth', '--out', tmp_path / 'out.pkl', *options]
    out, err = mmca('test', *argv)
    assert 'accuracy/top1: 50.0000' in out + err  # the head says 'dark' for every image
    found = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    expected = torch.tensor([1.0, 0.0]).softmax(0)
    assert all(torch.allclose(item['pred_score'], expected) for item in found)


def test_a_missing_config_and_a_misspelled_option_are_named():
    with pytest.raises(InputError, match='config not found: absent'):
        launch('train', 'absent', [])
    words = ['--cfg-options', 'optim_wraper.optimizer.lr=1']
    with pytest.raises(InputError, match='did you mean optim_wrapper'):
        launch('train', CLS, words)


@pytest.mark.parametrize('given', [None, 'ACTIVE'])
def test_waiting_threads_sleep_unless_told_otherwise(given, monkeypatch):
    seen = []
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    if given:
        monkeypatch.setenv('OMP_WAIT_POLICY', given)
    monkeypatch.setattr(os, 'execve', lambda *args: seen.append(args[2]))
    launch('train', SEG, [])
    assert seen[0]['OMP_WAIT_POLICY'] == (given or 'PASSIVE')
