"""SIGTERM writes a checkpoint from which a run resumes as if it had never stopped."""

import os
import signal
import time
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from mmca.checkpoint.safe_loading import load_from_local
from mmca.engine.hooks import preemption
from mmca.engine.hooks.preemption import PreemptionHook
from tests.engine.toy import build


class Signal(Hook):
    """Sends SIGTERM to its own process in an iteration."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration=None, validation=None):
        self.iteration, self.validation, self.validated = iteration, validation, []

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_val_iter(self, runner, **kwargs):
        if runner.iter == self.validation:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_val_epoch(self, runner, metrics=None):
        self.validated.append(runner.iter)


@pytest.fixture(autouse=True)
def handler_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def train(work_dir, kind='Epoch', resume=False, accumulate=1, **stop):
    """Train; returns the model, and the hook that sent the signal."""
    hook = Signal(**stop)
    runner = build(work_dir, hook, kind=kind, accumulate=accumulate, resume=resume)
    with pytest.raises(SystemExit, match='143') if stop else nullcontext():
        runner.train()
    return runner.model, hook


def meta(work_dir):
    last = (work_dir / 'last_checkpoint').read_text()
    assert last == str(work_dir / 'preempted.pth')
    return load_from_local(last)['meta']


@pytest.mark.parametrize(
    ('kind', 'iteration', 'epoch'),
    [('Epoch', 7, 1), ('Epoch', 10, 1), ('Epoch', 1, 0), ('Iter', 7, 0), ('Iter', 10, 0)],
)
def test_a_preempted_run_ends_like_an_uninterrupted_one(kind, iteration, epoch, tmp_path, capfd):
    whole, unbroken = train(tmp_path / 'whole', kind)
    before = signal.getsignal(signal.SIGTERM)
    first, _ = train(tmp_path / 'broken', kind, iteration=iteration)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)
    found = meta(tmp_path / 'broken')
    assert (found['epoch'], found['iter']) == (epoch, iteration)
    assert f'preempted: iteration {iteration} is saved in ' in capfd.readouterr().err
    second, resumed = train(tmp_path / 'broken', kind, resume=True)
    assert first.seen + second.seen == whole.seen
    assert len(whole.seen) == 15
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert unbroken.validated == [5, 10, 15]
    assert resumed.validated == [i for i in unbroken.validated if i >= iteration]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize('kind', ['Epoch', 'Iter'])
@pytest.mark.parametrize('validation', [10, 15])
def test_an_interrupted_validation_is_repeated(kind, validation, tmp_path):
    whole, _ = train(tmp_path / 'whole', kind)
    _, hook = train(tmp_path / 'broken', kind, validation=validation)
    assert hook.validated == list(range(5, validation, 5))
    assert meta(tmp_path / 'broken')['iter'] == validation
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    second, hook = train(tmp_path / 'broken', kind, resume=True)
    assert hook.validated == list(range(validation, 16, 5))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_accumulated_gradients_are_applied_before_a_stop(tmp_path):
    train(tmp_path, accumulate=3, iteration=7)
    assert meta(tmp_path)['iter'] == 9


def test_a_second_signal_kills_the_process(monkeypatch):
    hook, sent = PreemptionHook(), []
    monkeypatch.setattr(os, 'kill', lambda *args: sent.append(args))
    hook._ask(signal.SIGTERM, None)
    hook._ask(signal.SIGTERM, None)  # the launcher passes the same one on
    assert sent == []
    monkeypatch.setattr(preemption, 'SAME_SIGNAL', -1.0)
    hook._ask(signal.SIGTERM, None)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_loading_processes_obey_their_parent_alone():
    init = partial(preemption._obey_parent_alone, None)
    loader = DataLoader(range(100), num_workers=1, worker_init_fn=init, prefetch_factor=1)
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    other = os.fork()
    if not other:
        os.kill(worker.pid, signal.SIGTERM)
        os._exit(0)
    os.waitpid(other, 0)
    time.sleep(0.1)
    assert [int(next(batches)) for _ in range(5)] == [1, 2, 3, 4, 5]
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
