"""A run that was stopped and resumed ends with the very weights of one that ran through."""

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmca.engine.hooks.seed import SeedHook, _seed
from tests.helpers import ROOT

COMMON = [
    'model.backbone.arch.depths=(1,1,1,1)',
    'model.backbone.arch.num_heads=(1,1,1,1)',
    'model.backbone.drop_path_rate=0.5',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=2',
    'default_hooks.checkpoint.save_best=None',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
]
DETECTOR = [
    'model.backbone.arch.embed_dims=(16,16,16,16)',
    'model.neck.in_channels=[16,16,16,16]',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
]
CLASSIFIER = [
    'model.backbone.arch.embed_dims=(16,16,16,16)',
    'model.neck.in_channels=16',
    'model.head.in_channels=16',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
    # Flips draw random numbers in the loading processes, this in the model's.
    'model.train_cfg.augments.type=Mixup',
    'model.train_cfg.augments.alpha=0.8',
]
SEGMENTOR = [
    'model.backbone.arch.embed_dims=16',
    'model.decode_head.in_channels=[16,32,64,128]',
    'model.auxiliary_head.in_channels=64',
    'default_hooks.checkpoint.interval=3',
    'train_cfg.max_iters=6',
    'train_cfg.val_interval=6',
]


def test_seeds_repeat_and_differ():
    def draw(*key):
        _seed(*key)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw(0, 1, 2) == draw(0, 1, 2)
    draws = [draw(*key) for key in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2), (0, 0, 0)]]
    for column in zip(*draws, strict=True):
        assert len(set(column)) == len(draws)


def train(config, options, work_dir, data_root, *flags):
    env = {**os.environ, 'MMCA_DATA_ROOT': str(data_root)}
    command = [sys.executable, 'tools/train.py', f'configs/mini/{config}.py', *flags]
    command += ['--work-dir', str(work_dir), '--cfg-options', *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, None])
@pytest.mark.parametrize(
    ('config', 'options', 'half', 'end'),
    [
        ('maskrcnn_ca_pvt_mini', DETECTOR, 'epoch_1', 'epoch_2'),
        ('pretrain_ca_pvt_mini', CLASSIFIER, 'epoch_1', 'epoch_2'),
        ('upernet_ca_swin_mini', SEGMENTOR, 'iter_3', 'iter_6'),
    ],
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(config, options, half, end, seed, tmp_path):
    if config.startswith('pretrain') and find_spec('mmpretrain') is None:
        pytest.skip('needs requirements-pretrain.txt')
    command = [sys.executable, 'tools/make_mini.py', '--out', str(tmp_path / 'mini')]
    subprocess.run([*command, '--train', '6', '--val', '1'], cwd=ROOT, check=True)
    options = [*COMMON, *options, f'randomness.seed={seed}']
    train(config, options, tmp_path / 'whole', tmp_path)
    start = tmp_path / 'whole' / f'{half}.pth'
    resume = ['--resume', str(start)]
    if config.startswith('upernet'):  # mmseg's tool takes no file
        resume, options = ['--resume'], [*options, f'load_from={start}']
    train(config, options, tmp_path / 'resumed', tmp_path, *resume)
    whole, resumed = (weights(tmp_path / run / f'{end}.pth') for run in ('whole', 'resumed'))
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name
    start = weights(start)
    assert any(not torch.equal(start[name], whole[name]) for name in whole)


class Noise(torch.utils.data.Dataset):
    """Every sample is a random number."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return random.random()


@pytest.mark.parametrize('workers', [1, 2])
def test_passes_of_a_finite_sampler_differ_in_a_loop_of_iterations(workers, tmp_path):
    """And are the same in every run."""
    from mmengine.dataset import DefaultSampler
    from mmengine.runner.loops import _InfiniteDataloaderIterator

    def batches(number):
        data = Noise()
        sampler = DefaultSampler(data, shuffle=False, seed=0)
        loader = torch.utils.data.DataLoader(
            data, batch_size=2, sampler=sampler, num_workers=workers
        )
        runner = SimpleNamespace(
            seed=3, iter=0, cfg={}, train_loop=SimpleNamespace(dataloader=loader)
        )
        SeedHook().before_train_epoch(runner)
        iterator = _InfiniteDataloaderIterator(loader)
        return [tuple(next(iterator).tolist()) for _ in range(number)]

    seen = batches(6)
    assert len(set(seen)) == 6
    assert batches(6) == seen
