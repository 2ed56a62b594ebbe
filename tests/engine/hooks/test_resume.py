"""Resumed runs continue where they stopped; see test_preemption.py for runs from end to end."""

import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

from mmca.engine import ResumeHook
from mmca.engine.hooks.resume import VALIDATED
from tests.engine import toy
from tests.engine.toy import Model, build
from tests.helpers import ROOT, slow


@pytest.mark.parametrize(
    ('epochs', 'begin', 'forget', 'seen'),
    [
        (1, 1, False, [10, 15]),  # validated before the checkpoint
        (1, 1, True, [5, 10, 15]),  # killed in between
        (1, 2, True, [10, 15]),  # not due yet
        (3, 1, True, [15]),  # after the last epoch
    ],
)
def test_a_validation_is_run_once(epochs, begin, forget, seen, tmp_path):
    train_cfg = {'by_epoch': True, 'val_begin': begin}
    runner = build(tmp_path, train_cfg={**train_cfg, 'max_epochs': epochs})
    runner.train()
    if forget:
        runner.message_hub.runtime_info.pop(VALIDATED, None)
    meta = {'epoch': epochs, 'iter': 5 * epochs}
    runner.save_checkpoint(str(tmp_path), 'last.pth', meta=meta)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'last.pth'))
    _, watch = train(tmp_path, train_cfg={**train_cfg, 'max_epochs': 3}, resume=True)
    assert watch.validated == seen


def test_a_copied_work_dir_leaves_the_other_one_alone(tmp_path):
    (tmp_path / 'best_mIoU_iter_5.pth').touch()
    info = {'best_ckpt': '/old/best_mIoU_iter_5.pth', 'last_ckpt': '/old/iter_6.pth', 'iter': 6}
    checkpoint = {'message_hub': {'runtime_info': info}}
    runner = SimpleNamespace(work_dir=str(tmp_path), cfg={})
    ResumeHook().after_load_checkpoint(runner, checkpoint)
    assert info['best_ckpt'] == str(tmp_path / 'best_mIoU_iter_5.pth')
    assert info['last_ckpt'] == '/old/iter_6.pth'
    ResumeHook().after_load_checkpoint(runner, {'state_dict': {}})


SCHEDULE = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3),
    dict(type='MultiStepLR', milestones=[2], gamma=0.1),
    dict(type='CosineAnnealingLR', T_max=3, convert_to_iter_based=True),
]
train = partial(toy.train, param_scheduler=SCHEDULE)


@pytest.mark.parametrize('stop', [*slow(1), 7, 10, *slow(13)])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'batch_size': 1}, 'batch_size 2 -> 1, max_iters 15 -> 27'),
        ({'batch_size': 4}, 'batch_size 2 -> 4, max_iters 15 -> 9'),
        ({'batch_size': 9}, 'batch_size 2 -> 9, max_iters 15 -> 3'),
        ({'number': 30}, 'images 9 -> 30, max_iters 15 -> 45'),
        ({'max_epochs': 5}, 'max_epochs 3 -> 5, max_iters 15 -> 25'),
        ({'number': 10}, 'images 9 -> 10: '),
    ],
)
def test_another_extent_resumes_at_the_same_place(change, message, stop, tmp_path, capfd):
    _, whole = train(tmp_path / 'whole', **change)
    train(tmp_path / 'broken', stop)
    capfd.readouterr()
    model, resumed = train(tmp_path / 'broken', resume=True, **change)
    err = capfd.readouterr().err
    assert f'warning: resume: {message}' in err
    length = len(whole.rates) // change.get('max_epochs', 3)
    epoch, done = divmod(stop, 5)
    if done == 0:  # saved after the last iteration of an epoch, before its end
        epoch, done = epoch - 1, 5
    first = epoch * length + done * length // 5
    assert f'resuming at iteration {first} (saved at {stop})' in err
    assert list(resumed.rates) == list(range(first, len(whole.rates)))
    assert resumed.rates == pytest.approx({i: whole.rates[i] for i in resumed.rates})
    assert len(model.seen) == len(resumed.rates)
    assert set(resumed.epochs) >= set(range(epoch + 1, change.get('max_epochs', 3)))


def test_a_training_in_iterations_resumes_with_another_batch_size(tmp_path, capfd):
    by_iter = dict(kind='Iter', param_scheduler=SCHEDULE[:1])
    train(tmp_path, 7, **by_iter)
    model, resumed = train(tmp_path, batch_size=1, resume=True, **by_iter)
    assert 'resume: batch_size 2 -> 1: resuming at iteration 7 ' in capfd.readouterr().err
    assert list(resumed.rates) == list(range(7, 15))
    assert {len(batch) for batch in model.seen} == {1}


@MODELS.register_module(name='ToyPairModel', force=True)
class Pair(Model):
    def train_step(self, data, optim_wrapper):
        loss = self(*data, mode='loss')['loss']
        loss.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
        return {'loss': loss}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name='ToyPair', force=True)
class PairOfOptimizers:
    def __init__(self, **settings):
        pass

    def __call__(self, model):
        groups = {'layer': [model.layer.weight], 'bias': [model.layer.bias]}
        return OptimWrapperDict(
            **{name: OptimWrapper(torch.optim.SGD(group, 0.1)) for name, group in groups.items()}
        )


def test_several_optimizers_get_the_new_schedule(tmp_path):
    pair = dict(model=dict(type='ToyPairModel'), optim_wrapper=dict(constructor='ToyPair'))
    _, whole = train(tmp_path / 'whole', batch_size=1, **pair)
    train(tmp_path / 'broken', 7, **pair)
    _, resumed = train(tmp_path / 'broken', batch_size=1, resume=True, **pair)
    assert resumed.rates == pytest.approx({i: whole.rates[i] for i in range(12, 27)})


def test_a_schedule_that_follows_a_metric_is_kept_and_named(tmp_path, capfd):
    plateau = [dict(type='ReduceOnPlateauLR', monitor='count', rule='greater', patience=0)]
    train(tmp_path, 12, param_scheduler=plateau)
    _, resumed = train(tmp_path, batch_size=1, resume=True, param_scheduler=plateau)
    err = capfd.readouterr().err
    assert 'saved at 12) with the old schedule, because it depends on a metric; results' in err
    assert resumed.rates[min(resumed.rates)] == pytest.approx(0.01)


@pytest.mark.slow
def test_one_process_resumes_what_two_began(tmp_path, capfd):
    _, whole = train(tmp_path / 'whole', number=18)
    script = tmp_path / 'two.py'
    script.write_text(
        'from tests.engine.hooks.test_resume import train\n'
        f'train({str(tmp_path / "broken")!r}, 7, number=18, launcher="pytorch")\n'
    )
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2']
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    subprocess.run([*command, '--master_port=29643', script], env=env, check=True)
    _, resumed = train(tmp_path / 'broken', number=18, resume=True)
    message = 'processes 2 -> 1, max_iters 15 -> 27: resuming at iteration 12 (saved at 7)'
    assert message in capfd.readouterr().err
    assert resumed.rates == pytest.approx({i: whole.rates[i] for i in range(12, 27)})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'optim_wrapper': {'optimizer': {'type': 'Adam', 'lr': 0.01}}}, 'optim_wrapper'),
        ({'param_scheduler': [dict(type='MultiStepLR', milestones=[1, 2])]}, 'param_scheduler'),
    ],
)
def test_another_learning_rate_takes_effect(change, message, tmp_path, capfd):
    _, whole = train(tmp_path / 'whole', **change)
    train(tmp_path / 'broken', 7)
    capfd.readouterr()
    _, resumed = train(tmp_path / 'broken', resume=True, **change)
    assert f'warning: resume: {message} changed: resuming at' in capfd.readouterr().err
    assert resumed.rates == pytest.approx({i: whole.rates[i] for i in range(7, 15)})


def test_no_warning_without_changes(tmp_path, capfd):
    train(tmp_path, 7)
    train(tmp_path, resume=True)
    assert 'resume: ' not in capfd.readouterr().err
