"""Errors of a run: one line before the first iteration, traceback and advice after it."""

import errno

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS

from mmca.errors import InputError
from tests.engine.toy import Numbers, build
from tests.helpers import error_line


class Raise(Hook):
    """Raises at a point of the run."""

    def __init__(self, point, error):
        self.point, self.error = point, error

    def before_train(self, runner):
        if self.point == 'before':
            raise self.error

    def before_train_iter(self, runner, **kwargs):
        if self.point == 'first':
            raise self.error

    def after_train_iter(self, runner, **kwargs):
        if self.point == 'during' and runner.iter == 7:
            raise self.error


def run(point, error, work_dir, capfd):
    """Train until it ends; returns the exit status and stderr."""
    with pytest.raises(SystemExit) as stop:
        build(work_dir, Raise(point, error)).train()
    return stop.value.code, capfd.readouterr().err


@pytest.mark.parametrize('point', ['before', 'first'])
def test_during_set_up_an_error_is_one_line_and_the_log_has_the_traceback(point, tmp_path, capfd):
    code, err = run(point, RuntimeError('several\nlines'), tmp_path, capfd)
    assert code == 2
    assert error_line(err) == ('error: RuntimeError: several lines (MMCA_TRACEBACK=1 shows where)')
    (log,) = tmp_path.glob('*/*.log')
    assert 'Traceback (most recent call last)' in log.read_text()
    assert 'test_failures.py' in log.read_text()


@pytest.mark.parametrize('point', ['before', 'during'])
def test_bad_input_is_one_line_at_any_time(point, tmp_path, capfd):
    code, err = run(point, InputError('arch is huge'), tmp_path, capfd)
    assert (code, error_line(err)) == (2, 'error: arch is huge')


@pytest.mark.parametrize(
    ('error', 'advice'),
    [
        (KeyError('x'), 'error: resume'),
        (torch.cuda.OutOfMemoryError('2 GiB'), 'error: out of memory: reduce the batch size'),
        (MemoryError(), 'error: out of memory: reduce the batch size'),
        (OSError(errno.ENOSPC, 'No space', 'a.pth'), 'error: no space left for a.pth: free some'),
    ],
)
def test_during_the_run_the_traceback_comes_first(error, advice, tmp_path, capfd):
    code, err = run('during', error, tmp_path, capfd)
    assert code == 1
    assert 'Traceback (most recent call last)' in err
    last = err.splitlines()[-1]
    assert last.startswith(advice)
    assert last.endswith(f'resume with the same command and --resume (checkpoints in {tmp_path})')


def test_memory_for_the_first_iteration(tmp_path, capfd):
    _, err = run('first', torch.cuda.OutOfMemoryError('2 GiB'), tmp_path, capfd)
    assert error_line(err).startswith('error: out of memory: reduce the batch size')


def test_an_assertion_without_a_message_shows_its_line(tmp_path, capfd):
    class Bare(Hook):
        def before_train(self, runner):
            raise AssertionError

    with pytest.raises(SystemExit, match='2'):
        build(tmp_path, Bare()).train()
    expected = f'error: AssertionError: raise AssertionError in {__file__}, line '
    assert error_line(capfd.readouterr().err).startswith(expected)


def test_an_interrupt_ends_with_130(tmp_path, capfd):
    code, err = run('before', KeyboardInterrupt(), tmp_path, capfd)
    assert code == 130
    assert err.endswith(f'no checkpoint in {tmp_path} yet; run the same command again\n')
    wrapped = SyntaxError('while mmengine writes the config')
    wrapped.__context__ = KeyboardInterrupt()
    assert run('during', wrapped, tmp_path, capfd)[0] == 130


def test_tracebacks_on_demand(tmp_path, monkeypatch):
    monkeypatch.setenv('MMCA_TRACEBACK', '1')
    with pytest.raises(ZeroDivisionError):
        build(tmp_path, Raise('before', ZeroDivisionError())).train()


def test_the_part_of_the_config_is_named(tmp_path, capfd):
    for changes, expected in (
        ({'model': {'type': 'Absent'}}, 'error: model: KeyError: '),
        ({'optim_wrapper': {'optimizer': {'type': 'Adam', 'lr': 'x'}}}, 'error: optim_wrapper: '),
        ({'custom_hooks': [{'type': 'Absent'}]}, 'error: default_hooks, custom_hooks: KeyError'),
        ({'train_cfg': {'by_epoch': True}}, 'error: train_dataloader: TypeError'),
    ):
        with pytest.raises(SystemExit, match='2'):
            build(tmp_path, **changes).train()
        assert error_line(capfd.readouterr().err).startswith(expected)


@DATASETS.register_module(name='ToyBroken', force=True)
class Broken(Numbers):
    """Loading a sample raises."""

    def __getitem__(self, index):
        raise (InputError if self.number == 1 else ValueError)('cannot decode a.jpg')


@pytest.mark.parametrize(('number', 'kind'), [(1, ''), (2, 'ValueError: ')])
def test_an_error_in_a_loading_process_is_described_by_its_own_line(number, kind, tmp_path, capfd):
    dataset = {'type': 'ToyBroken', 'number': number}
    sampler = {'type': 'DefaultSampler'}
    loader = {'batch_size': 1, 'num_workers': 1, 'dataset': dataset, 'sampler': sampler}
    with pytest.raises(SystemExit, match='2'):
        build(tmp_path, train_dataloader=loader).train()
    expected = f'error: {kind}cannot decode a.jpg'
    assert error_line(capfd.readouterr().err).startswith(expected)
