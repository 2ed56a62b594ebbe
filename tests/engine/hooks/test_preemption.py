"""SIGTERM writes a checkpoint from which a run resumes as if it had never stopped."""

import os
import signal
import subprocess
import time

import pytest
from mmengine.hooks import Hook

from mmca.engine.hooks import preemption
from mmca.engine.safe_loading import load_from_local
from tests.engine.toy import build, train
from tests.stress import forked
from tests.stress.training import equal


def meta(work_dir):
    last = (work_dir / 'last_checkpoint').read_text()
    assert last == str(work_dir / 'preempted.pth')
    return load_from_local(last)['meta']


@pytest.mark.parametrize(
    ('kind', 'iteration', 'epoch'),
    [('Epoch', 7, 1), ('Epoch', 10, 1), ('Epoch', 1, 0), ('Iter', 7, 0), ('Iter', 10, 0)],
)
def test_a_preempted_run_ends_like_an_uninterrupted_one(kind, iteration, epoch, tmp_path, capfd):
    whole, unbroken = train(tmp_path / 'whole', kind=kind)
    first, _ = train(tmp_path / 'broken', iteration, kind=kind)
    found = meta(tmp_path / 'broken')
    assert (found['epoch'], found['iter']) == (epoch, iteration)
    assert f'preempted: iteration {iteration} is saved in ' in capfd.readouterr().err
    second, resumed = train(tmp_path / 'broken', kind=kind, resume=True)
    assert first.seen + second.seen == whole.seen
    assert len(whole.seen) == 15
    assert equal(whole.state_dict(), second.state_dict())
    assert unbroken.validated == [5, 10, 15]
    assert resumed.validated == [i for i in unbroken.validated if i >= iteration]


@pytest.mark.parametrize('kind', ['Epoch', 'Iter'])
@pytest.mark.parametrize('validation', [10, 15])
def test_an_interrupted_validation_is_repeated(kind, validation, tmp_path):
    whole, _ = train(tmp_path / 'whole', kind=kind)
    _, hook = train(tmp_path / 'broken', validation=validation, kind=kind)
    assert hook.validated == list(range(5, validation, 5))
    assert meta(tmp_path / 'broken')['iter'] == validation
    second, hook = train(tmp_path / 'broken', kind=kind, resume=True)
    assert hook.validated == list(range(validation, 16, 5))
    assert equal(whole.state_dict(), second.state_dict())


def test_accumulated_gradients_are_applied_before_a_stop(tmp_path):
    optim_wrapper = {'optimizer': {'type': 'Adam'}, 'accumulative_counts': 3}
    train(tmp_path, 7, optim_wrapper=optim_wrapper)
    assert meta(tmp_path)['iter'] == 9


@pytest.mark.parametrize(('later', 'code'), [(False, 143), (True, -signal.SIGTERM)])
def test_signals_to_the_whole_process_group(later, code, tmp_path, monkeypatch):
    """Loading processes ignore them; a second one kills the run, unless a launcher repeats it."""
    monkeypatch.setattr(preemption, 'SAME_SIGNAL', -1.0 if later else 60.0)

    class Twice(Hook):
        def before_train_iter(self, runner, **kwargs):
            for _ in range(2 if runner.iter == 1 else 0):
                subprocess.run(['sh', '-c', 'kill -TERM 0'], check=False)
                time.sleep(0.1)

    def job():
        os.setsid()
        loader = {'batch_size': 1, 'num_workers': 1, 'dataset': {'type': 'ToyNumbers'}}
        loader['sampler'] = {'type': 'DefaultSampler'}
        build(tmp_path, Twice(), train_dataloader=loader).train()

    assert forked.run(job, tmp_path).code == code
    assert (tmp_path / 'preempted.pth').exists() == (not later)
