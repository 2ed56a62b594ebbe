"""A toy training: nine numbers, a linear layer, three epochs of five batches."""

import os
import signal
from contextlib import nullcontext

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch.utils.data import Dataset

from mmca.engine import Runner
from tests.helpers import forget_mmengine

EPOCH = 5  # batches


@DATASETS.register_module(name='ToyNumbers', force=True)
class Numbers(Dataset):
    def __init__(self, number=2 * EPOCH - 1):
        self.number = number

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        return torch.tensor([float(index)])


@MODELS.register_module(name='ToyModel', force=True)
class Model(BaseModel):
    """Remembers the samples that it was trained on."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def forward(self, *samples, mode='tensor'):
        x = torch.stack(samples)
        if mode == 'predict':
            return [x]
        self.seen.append(x.flatten().tolist())
        return {'loss': (torch.nn.functional.dropout(self.layer(x)) ** 2).mean() / 100}


@METRICS.register_module(name='ToyCount', force=True)
class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return {'count': len(results)}


class Watch(Hook):
    """Records a run, and sends SIGTERM in an iteration or a validation."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration=None, validation=None):
        self.iteration, self.validation = iteration, validation
        self.rates, self.epochs, self.validated = {}, [], []

    def before_train_iter(self, runner, **kwargs):
        rates = runner.optim_wrapper.get_lr()
        self.rates[runner.iter] = rates.get('layer.lr', rates.get('lr'))[0]
        self.epochs.append(runner.epoch)

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_val_iter(self, runner, **kwargs):
        if runner.iter == self.validation:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_val_epoch(self, runner, metrics=None):
        self.validated.append(runner.iter)


def build(
    work_dir, *hooks: Hook, kind: str = 'Epoch', number=9, batch_size=2, max_epochs=3, **changes
) -> Runner:
    """A runner that trains for 15 iterations, with more hooks and other arguments."""
    by_epoch = kind == 'Epoch'
    dataset = {'type': 'ToyNumbers', 'number': number}
    loader = {'batch_size': batch_size, 'num_workers': 0, 'dataset': dataset}
    sampler = {'type': 'DefaultSampler' if by_epoch else 'InfiniteSampler', 'shuffle': True}
    length = {'max_epochs': max_epochs} if by_epoch else {'max_iters': 3 * EPOCH}
    length['val_interval'] = 1 if by_epoch else EPOCH
    checkpoint = {'interval': 1, 'max_keep_ckpts': 1, 'by_epoch': by_epoch}
    settings = {
        'model': {'type': 'ToyModel'},
        'work_dir': str(work_dir),
        'train_dataloader': {**loader, 'sampler': sampler},
        'train_cfg': {'type': f'{kind}BasedTrainLoop', **length},
        'val_dataloader': {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        'val_cfg': {},
        'val_evaluator': {'type': 'ToyCount'},
        'optim_wrapper': {'optimizer': {'type': 'Adam', 'lr': 0.1}},
        'param_scheduler': [{'type': 'LinearLR', 'by_epoch': False, 'begin': 0, 'end': 15}],
        'default_hooks': {'checkpoint': checkpoint},
        'custom_hooks': [{'type': 'mmca.SeedHook'}],
        'randomness': {'seed': 0},
        'log_level': 'ERROR',
        **changes,
    }
    forget_mmengine()
    runner = Runner.from_cfg(settings)
    for hook in hooks:
        runner.register_hook(hook, priority=getattr(hook, 'priority', 'NORMAL'))
    return runner


def train(work_dir, iteration=None, validation=None, **changes) -> tuple[Model, Watch]:
    """Train until SIGTERM, if any; returns the model, and a record of the run."""
    watch = Watch(iteration, validation)
    runner = build(work_dir, watch, **changes)
    before = signal.getsignal(signal.SIGTERM)
    stops = iteration or validation
    with pytest.raises(SystemExit, match='143') if stops else nullcontext():
        runner.train()
    assert signal.getsignal(signal.SIGTERM) is (signal.SIG_IGN if stops else before)
    signal.signal(signal.SIGTERM, before)
    return getattr(runner.model, 'module', runner.model), watch
