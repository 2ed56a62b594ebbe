"""Seeds depend on seed and iteration alone; tests/stress/test_faults.py resumes whole runs."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from mmca.engine import SeedHook
from tests.engine.toy import EPOCH, build
from tests.helpers import slow


def test_seeds_repeat_and_differ():
    def draw(seed, iteration):
        SeedHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), 0)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw(1, 2) == draw(1, 2)
    draws = [draw(*key) for key in [(0, 0), (0, 1), (1, 0), (0, 2), (2, 0)]]
    for column in zip(*draws, strict=True):
        assert len(set(column)) == len(draws)


def test_a_resumed_run_has_the_seed_of_its_checkpoint(tmp_path):
    changes = {'randomness': {'seed': None}, 'default_hooks': {'checkpoint': {'interval': 1}}}
    whole = build(tmp_path / 'whole', **changes)
    whole.train()
    start = str(tmp_path / 'whole/epoch_1.pth')
    resumed = build(tmp_path / 'resumed', load_from=start, resume=True, **changes)
    resumed.train()
    assert resumed.model.seen == whole.model.seen[EPOCH:]
    assert torch.equal(resumed.model.layer.weight, whole.model.layer.weight)


@DATASETS.register_module(name='ToyNoise', force=True)
class Noise(Dataset):
    """Every sample is a random number."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([random.random()])


@pytest.mark.parametrize('workers', [1, *slow(2)])
def test_passes_of_a_finite_sampler_differ_in_a_loop_of_iterations(workers, tmp_path):
    """And are the same in every run."""
    loader = {'batch_size': 2, 'num_workers': workers, 'dataset': {'type': 'ToyNoise'}}
    loader['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    length = {'type': 'IterBasedTrainLoop', 'max_iters': 6}
    runs = []
    for name in ('one', 'two'):
        runner = build(tmp_path / name, train_dataloader=loader, train_cfg=length)
        runner.train()
        runs.append([tuple(batch) for batch in runner.model.seen])
    assert len(set(runs[0])) == 6
    assert runs[0] == runs[1]
