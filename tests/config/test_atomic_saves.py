"""A checkpoint is whole or absent, and the one before stays until the next is there."""

import errno
import os
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, checkpoint_hook
from mmengine.logging import MessageHub
from mmengine.runner import find_latest_checkpoint, save_checkpoint

from mmca.config.atomic_saves import atomic_saves, replacing


@pytest.fixture(autouse=True)
def atomic():
    with ExitStack() as stack:
        stack.enter_context(atomic_saves())
        yield stack


@pytest.fixture
def full_disk(monkeypatch):
    """Let the disk be full at the end of the next file, after part of it was written."""

    def fill():
        def fail(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, 'fsync', fail)

    return fill


def hook_of(folder, **options):
    """A CheckpointHook in training, and the runner that it calls."""
    hub = MessageHub('test')

    def save(out_dir, filename, *args, meta, **kwargs):
        # What is there while the new one is not.
        hook.seen = sorted(path.name for path in folder.glob('*.pth'))
        save_checkpoint({'meta': meta}, os.path.join(out_dir, filename))

    runner = SimpleNamespace(
        work_dir=str(folder),
        epoch=0,
        iter=0,
        message_hub=hub,
        save_checkpoint=save,
        logger=SimpleNamespace(info=lambda text: None, warning=lambda text: None),
    )
    hook = CheckpointHook(**options)
    hook.before_train(runner)
    return hook, runner


def test_a_file_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / 'a'
    path.write_text('old')
    with replacing(path, 'w') as file:
        file.write('new')
        file.flush()
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
    assert os.listdir(tmp_path) == ['a']


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_an_interrupted_file_changes_nothing(tmp_path, error):
    path = tmp_path / 'a'
    path.write_text('old')

    def write():
        with replacing(path, 'w') as file:
            file.write('new')
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a']


def test_folders_are_made(tmp_path):
    LocalBackend().put(b'x', tmp_path / 'a/b')
    assert (tmp_path / 'a/b').read_bytes() == b'x'


def test_older_checkpoints_go_after_the_new_one_is_there(tmp_path):
    hook, runner = hook_of(tmp_path, interval=1, max_keep_ckpts=1)
    for runner.epoch in range(3):
        hook.after_train_epoch(runner)
        last = f'epoch_{runner.epoch + 1}.pth'
        assert hook.seen == ([f'epoch_{runner.epoch}.pth'] if runner.epoch else [])
        assert sorted(os.listdir(tmp_path)) == [last, 'last_checkpoint']
        assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / last)


@pytest.mark.parametrize('keep', [1, 3])
def test_full_disk_leaves_the_checkpoint_before(tmp_path, full_disk, keep):
    hook, runner = hook_of(tmp_path, interval=1, max_keep_ckpts=keep)
    hook.after_train_epoch(runner)
    full_disk()
    runner.epoch = 1
    with pytest.raises(OSError, match='No space'):
        hook.after_train_epoch(runner)
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'last_checkpoint']
    last = find_latest_checkpoint(str(tmp_path))
    assert torch.load(last)['meta']['epoch'] == 1


@pytest.mark.parametrize('keys', ['a', ['a', 'b']])
def test_the_best_checkpoint_stays_until_a_better_one_is_there(tmp_path, full_disk, keys):
    hook, runner = hook_of(tmp_path, interval=10, save_best=keys, rule='greater')
    runner.epoch = 1
    hook.after_val_epoch(runner, {'a': 0.1, 'b': 0.1})
    runner.epoch = 2
    hook.after_val_epoch(runner, {'a': 0.2, 'b': 0.05})
    names = {'best_a_epoch_2.pth'} | ({'best_b_epoch_1.pth'} if len(keys) == 2 else set())
    assert set(os.listdir(tmp_path)) == names
    hook.after_val_epoch(runner, {'a': 0.3, 'b': 0.05})  # the same name again
    assert set(os.listdir(tmp_path)) == names
    full_disk()
    runner.epoch = 3
    with pytest.raises(OSError, match='No space'):
        hook.after_val_epoch(runner, {'a': 0.4, 'b': 0.4})
    assert set(os.listdir(tmp_path)) == names


def test_mmengine_is_left_as_it_was(atomic):
    changed = CheckpointHook._save_checkpoint_with_step, LocalBackend.put
    atomic.close()
    assert CheckpointHook._save_checkpoint_with_step is changed[0].__wrapped__
    assert LocalBackend.put is not changed[1]
    assert not hasattr(checkpoint_hook, 'open')
