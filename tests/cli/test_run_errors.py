"""What ends a run although the config is right becomes one line that says what to do."""

import errno
import logging
import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader

from mmca.cli.main import guarded
from mmca.cli.run_errors import explained
from mmca.errors import InputError
from mmca.checks import check_work_dir

CFG = Config(
    {
        'model': {'type': 'MaskRCNN'},
        'train_dataloader': {'batch_size': 4, 'num_workers': 2},
        'test_dataloader': {'batch_size': 1, 'num_workers': 0},
    }
)


def explain(error, tool='train', work_dir='work'):
    """The line for an exception."""

    def job():
        with explained(CFG, tool, work_dir):
            raise error

    with pytest.raises(InputError) as caught:
        job()
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_no_memory_on_a_gpu():
    text = 'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 10 GiB'
    line = explain(torch.OutOfMemoryError(text))
    assert line.startswith('out of memory (CUDA out of memory): lower train_dataloader.batch_size')
    assert 'batch_size (now 4)' in line
    assert 'set model.backbone.with_cp=True, or train with --amp' in line
    assert 'no checkpoint in work yet' in line
    line = explain(torch.OutOfMemoryError(text), 'test')
    assert 'test_dataloader.batch_size (now 1)' in line
    assert 'with_cp' not in line


@pytest.mark.parametrize(
    'allocate',
    [
        lambda: torch.empty(1 << 60),
        lambda: np.empty(1 << 58),
        lambda: explain(MemoryError('Caught MemoryError in DataLoader worker process 0.')),
    ],
)
def test_no_memory_on_the_cpu(allocate):
    try:
        line = allocate()
    except (RuntimeError, MemoryError) as error:
        line = explain(error)
    assert line.startswith('out of memory (')
    assert 'train_dataloader.num_workers (now 2), or set model.backbone.with_cp=True' in line


def test_a_full_disk(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('x')
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'epoch_2.pth')
    expected = (
        'cannot write epoch_2.pth (No space left on device): make room, then go on with the same '
        f'command and --resume (last checkpoint in {tmp_path})'
    )
    assert explain(error, work_dir=str(tmp_path)) == expected
    # As mmengine raises it again for a hook.
    again = OSError(f'{error} in <CheckpointHook>')
    again.__cause__ = error
    assert explain(again, work_dir=str(tmp_path)) == expected


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_a_log_that_cannot_be_written():
    logger, handler = logging.getLogger('full'), logging.FileHandler('/dev/full')
    logger.addHandler(handler)
    handle_error = logging.FileHandler.handleError

    def job():
        with explained(CFG, 'train', 'work'):
            logger.warning('a line')

    with pytest.raises(InputError, match=r'cannot write /dev/full \(No space left'):
        job()
    assert logging.FileHandler.handleError is handle_error
    logger.removeHandler(handler)


class Images:
    """Two samples, of which loading the second ends the process."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            os._exit(7)
        return index


class Wrong(Images):
    """Two samples, of which the second cannot be rotated."""

    def __getitem__(self, index):
        if index == 1:
            raise RuntimeError('cannot rotate')
        return index


@pytest.mark.parametrize(
    ('images', 'expected'),
    [
        (Images(), 'a process that loads data died: pid'),
        (Wrong(), 'loading data failed: RuntimeError: cannot rotate (test_run_errors.py, line '),
    ],
)
def test_a_worker_that_dies(images, expected, capfd):
    def job():
        with explained(CFG, 'train', 'work'):
            list(DataLoader(images, num_workers=1))

    assert guarded(job) == 2
    out, err = capfd.readouterr()
    assert 'Traceback' not in out + err
    assert f'error: {expected}' in err
    assert 'train_dataloader.num_workers' in err


@pytest.mark.parametrize('error', [KeyError('x'), RuntimeError('a bug'), OSError('no number')])
def test_others_pass(error):
    def job():
        with explained(CFG, 'train', 'work'):
            raise error

    with pytest.raises(type(error)):
        job()


@pytest.mark.parametrize('place', ['file', 'file/work', '/proc/work'])
def test_a_work_dir_where_nothing_can_be_written(place, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'cannot write there .*; name another folder with'):
        check_work_dir(str(tmp_path / place))


def test_a_work_dir_on_a_full_disk(tmp_path, monkeypatch):
    def write_bytes(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('pathlib.Path.write_bytes', write_bytes)
    with pytest.raises(InputError, match='No space left on device'):
        check_work_dir(str(tmp_path / 'work'))
    assert os.listdir(tmp_path / 'work') == []


def test_a_work_dir_stays_empty(tmp_path):
    check_work_dir(str(tmp_path / 'a/b'))
    assert os.listdir(tmp_path / 'a/b') == []
