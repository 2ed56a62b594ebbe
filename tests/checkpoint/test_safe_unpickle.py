"""Hostile checkpoint files: no code runs, nothing crashes, one line says what is wrong."""

import argparse
import json
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmca.checkpoint import read_checkpoint
from mmca.errors import InputError
from tests.hostile import EMPTY_DICT, STOP, WRAPS, corpus, text

READ = """
import json, sys
from mmca.checkpoint import read_checkpoint
from mmca.errors import InputError
for path in json.load(sys.stdin):
    try:
        read_checkpoint(path)
        print('read')
    except InputError as error:
        print('refused', str(error).count(chr(10)))
    sys.stdout.flush()
"""


@pytest.mark.parametrize('wrap', WRAPS.values(), ids=WRAPS)
def test_nothing_in_a_file_is_executed(wrap, tmp_path):
    """In a process of its own, since a file may try to crash it."""
    target, paths = tmp_path / 'planted', []
    for label, opcodes in corpus(target).items():
        # Once as the whole content, once beside weights as a part of a dict.
        inside = EMPTY_DICT + text('model') + EMPTY_DICT + b's' + text('x') + opcodes + b's'
        for kind, content in (('whole', opcodes), ('inside', inside)):
            path = tmp_path / f'{label} {kind}.pth'
            path.write_bytes(wrap(content))
            paths.append(str(path))
    done = subprocess.run(
        [sys.executable, '-c', READ], input=json.dumps(paths), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split('\n')[:-1] == ['refused 0'] * len(paths)
    assert not target.exists()


def test_names_that_leave_the_folder_are_not_written(tmp_path):
    path = tmp_path / 'sub' / 'traversal.pth'
    path.parent.mkdir()
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('../../planted', b'x')
        archive.writestr('archive/data.pkl', b'\x80\x02' + EMPTY_DICT + STOP)
    with pytest.raises(InputError):
        read_checkpoint(path)
    assert [p.name for p in tmp_path.iterdir()] == ['sub']


@pytest.mark.parametrize('zipped', [True, False])
def test_what_training_checkpoints_hold_beside_tensors_is_skipped(zipped, tmp_path):
    log = HistoryBuffer()
    log.update(1.0)
    content = {
        'state_dict': OrderedDict(a=torch.arange(3.0), b=torch.ones(2, dtype=torch.bfloat16)),
        'message_hub': {'loss': log, 'scalar': np.float64(3), 'array': np.ones((2, 2))},
        'args': argparse.Namespace(lr=1e-3, sizes=[1, 2]),
        'device': torch.device('cpu'),
        'optimizer': {'state': {}, 'param_groups': [{'lr': 0.1, 'params': [0]}]},
        'shape': torch.Size([1, 2]),
    }
    path = tmp_path / 'checkpoint.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert torch.equal(checkpoint.tensors['a'], torch.arange(3.0))
    assert checkpoint.tensors['b'].dtype == torch.bfloat16
    assert set(checkpoint.skipped) == content.keys() - {'state_dict'}


def test_a_file_that_names_the_operating_system_is_refused(tmp_path):
    class Planted:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path / "planted"}',)

    path = tmp_path / 'hostile.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'x': Planted()}, path)
    with pytest.raises(InputError, match=r'GLOBAL posix\.system whose module posix is blocked'):
        read_checkpoint(path)
    assert not (tmp_path / 'planted').exists()
