"""Checkpoints are whole or absent, and one is always left."""

import os
from signal import SIGKILL

import pytest
import torch
from mmengine.hooks import Hook

from mmca.engine.checkpoint_hook import CheckpointHook, find_last
from mmca.errors import InputError
from tests.engine.toy import build
from tests.stress import forked
from tests.stress.training import equal


class Watch(Hook):
    """Lists the checkpoints whenever one is about to be written."""

    def __init__(self):
        self.seen = []

    def before_save_checkpoint(self, runner, checkpoint):
        self.seen.append(sorted(name for name in os.listdir(runner.work_dir) if '.pth' in name))


def test_the_old_checkpoint_goes_after_the_new_one_is_written(tmp_path):
    watch = Watch()
    runner = build(tmp_path, watch)
    assert sum(isinstance(hook, CheckpointHook) for hook in runner.hooks) == 1
    runner.train()
    assert watch.seen == [[], ['epoch_1.pth'], ['epoch_2.pth']]
    assert sorted(p.name for p in tmp_path.glob('*.pth*')) == ['epoch_3.pth']


def test_the_best_checkpoint_is_replaced_late_too(tmp_path):
    watch = Watch()
    checkpoint = {'interval': 1, 'max_keep_ckpts': 1, 'save_best': 'count', 'rule': 'less'}
    build(tmp_path, watch, default_hooks={'checkpoint': checkpoint}).train()
    assert any(name.startswith('best_count') for name in os.listdir(tmp_path))
    assert all(seen for seen in watch.seen[1:])


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    runner = build(tmp_path)
    runner.train()
    before = (tmp_path / 'epoch_3.pth').read_bytes()

    def fail(*args, **kwargs):
        raise OSError('disk')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='disk'):
        runner.save_checkpoint(str(tmp_path), 'epoch_3.pth')
    assert (tmp_path / 'epoch_3.pth').read_bytes() == before


@pytest.mark.parametrize('saves', [1, 2, 3])
def test_a_run_killed_while_it_saves_ends_like_an_unbroken_one(saves, tmp_path):
    """tests/stress/test_faults.py kills whole trainings, at any moment."""
    whole = build(tmp_path / 'whole')
    whole.train()
    calls = iter(range(saves))

    def job():
        os.fsync = lambda _: next(calls) + 1 == saves and os.kill(os.getpid(), SIGKILL)
        build(tmp_path / 'broken').train()

    assert forked.run(job, tmp_path).code == -SIGKILL
    assert len(list((tmp_path / 'broken').glob('*.pth'))) == min(saves - 1, 1)
    broken = build(tmp_path / 'broken', resume=saves > 1)
    broken.train()
    assert whole.model.seen[5 * (saves - 1) :] == broken.model.seen
    assert equal(whole.model.state_dict(), broken.model.state_dict())


def write(path, time, **content):
    torch.save({'state_dict': {'a': torch.ones(1)}, **content}, path)
    os.utime(path, (time, time))


def test_finds_the_named_checkpoint_or_the_newest_one_with_a_training_state(tmp_path, capsys):
    assert find_last(tmp_path) is None
    assert 'starts from the beginning' in capsys.readouterr().err
    write(tmp_path / 'epoch_1.pth', 1, optimizer={})
    write(tmp_path / 'epoch_2.pth', 2, optimizer={})
    write(tmp_path / 'best.pth', 3)
    assert find_last(tmp_path) == str(tmp_path / 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    assert find_last(tmp_path) == str(tmp_path / 'epoch_1.pth')


@pytest.mark.parametrize('named', ['', '/elsewhere/epoch_1.pth', '/elsewhere/epoch_9.pth'])
def test_a_moved_work_dir_or_a_cut_off_record(named, tmp_path, capsys):
    write(tmp_path / 'epoch_1.pth', 1, optimizer={})
    (tmp_path / 'last_checkpoint').write_text(named)
    assert find_last(tmp_path) == str(tmp_path / 'epoch_1.pth')
    assert ('resuming from' in capsys.readouterr().err) == bool(named)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys):
    write(tmp_path / 'epoch_1.pth', 1, optimizer={})
    write(tmp_path / 'epoch_2.pth', 2, optimizer={})
    whole = (tmp_path / 'epoch_2.pth').read_bytes()
    (tmp_path / 'epoch_2.pth').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert find_last(tmp_path) == str(tmp_path / 'epoch_1.pth')
    assert 'epoch_2.pth' in capsys.readouterr().err
    (tmp_path / 'epoch_1.pth').unlink()
    with pytest.raises(InputError, match='none of the checkpoints'):
        find_last(tmp_path)
