"""A toy training: nine numbers, a linear layer, three epochs of five batches."""

from typing import Any

import torch
from mmengine.evaluator import BaseMetric
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


def build(work_dir, *hooks: Any, kind: str = 'Epoch', **changes: Any) -> Runner:
    """A runner that trains for 15 iterations, with more hooks and other arguments."""
    loader = {
        'batch_size': 2,
        'num_workers': 0,
        'dataset': {'type': 'ToyNumbers'},
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
    }
    sampler = {'type': 'InfiniteSampler', 'shuffle': True}
    length = {'max_epochs': 3} if kind == 'Epoch' else {'max_iters': 3 * EPOCH}
    interval = 1 if kind == 'Epoch' else EPOCH
    checkpoint = {'interval': 1, 'max_keep_ckpts': 1, 'by_epoch': kind == 'Epoch'}
    settings = {
        'model': {'type': 'ToyModel'},
        'work_dir': str(work_dir),
        'train_dataloader': loader if kind == 'Epoch' else {**loader, 'sampler': sampler},
        'train_cfg': {'type': f'{kind}BasedTrainLoop', 'val_interval': interval, **length},
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
