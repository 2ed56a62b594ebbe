"""Hostile checkpoint files: no code runs, nothing crashes, one line says what is wrong."""

import argparse
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmca.checkpoint import read_checkpoint
from mmca.errors import InputError

MARK, STOP, REDUCE, BUILD = b'(', b'.', b'R', b'b'
NEWOBJ, NEWOBJ_EX, OBJ, EMPTY_TUPLE, EMPTY_DICT = b'\x81', b'\x92', b'o', b')', b'}'


def text(value):
    """A string on the stack."""
    data = value.encode()
    return b'X' + len(data).to_bytes(4, 'little') + data


def name(module, attribute):
    return b'c' + f'{module}\n{attribute}\n'.encode()


def call(function, *args):
    """function(*args) by REDUCE."""
    return function + MARK + b''.join(args) + b't' + REDUCE


def corpus(target):
    """Label -> the opcodes of one object that runs `touch target` or crashes when it is built."""
    command, code = text(f'touch {target}'), text(f"open({str(target)!r}, 'w')")
    system, evaluate = name('os', 'system'), name('builtins', 'eval')
    storage = name('torch.storage', 'UntypedStorage')
    number = b'M\xff\xff'
    keywords = EMPTY_DICT + text('allocator') + number + b's'
    partial = name('functools', 'partial')
    return {
        'os.system': call(system, command),
        'posix.system': call(name('posix', 'system'), command),
        'eval': call(evaluate, code),
        'exec': call(name('builtins', 'exec'), code),
        'exec of Python 2': call(name('__builtin__', 'eval'), code),
        'open': call(name('io', 'open'), text(str(target)), text('w')),
        'subprocess': call(name('subprocess', 'getoutput'), command),
        'runpy': call(name('runpy', '_run_code'), code, EMPTY_DICT),
        'torch.load': call(name('torch', 'load'), text(str(target))),
        'torch.save': call(name('torch', 'save'), number, text(str(target))),
        'torch.hub': call(name('torch.hub', '_import_module'), text('x'), text(str(target))),
        'ctypes': call(name('ctypes', 'string_at'), number),
        'a dotted name': call(name('torch', 'serialization.os.system'), command),
        'by INST': MARK + command + b'ios\nsystem\n',
        'by OBJ': MARK + system + command + OBJ,
        'by NEWOBJ': system + command + b'\x85' + NEWOBJ,
        'by NEWOBJ_EX': partial + system + b'\x85' + EMPTY_DICT + NEWOBJ_EX,
        'by STACK_GLOBAL': text('os') + text('system') + b'\x93' + command + b'\x85' + REDUCE,
        'by an extension code': b'\x82\x01' + command + b'\x85' + REDUCE,
        'by BUILD': partial + system + b'\x85' + NEWOBJ + EMPTY_TUPLE + BUILD,
        'map': call(name('builtins', 'map'), system, MARK + command + b'l'),
        'getattr': call(name('builtins', 'getattr'), name('os', 'path'), text('os')),
        'a storage by keywords': storage + EMPTY_TUPLE + keywords + NEWOBJ_EX,
        'a storage by partial': call(partial, storage) + keywords + BUILD,
        'a storage of terabytes': call(storage, b'\x8a\x06\x00\x00\x00\x00\x00\x40'),
        'a tensor of nothing': call(name('torch._utils', '_rebuild_tensor_v2'), *[b'N'] * 6),
        'a wrapper subclass': call(
            name('torch._utils', '_rebuild_wrapper_subclass'), evaluate, *[b'N'] * 7
        ),
        'a type to rebuild from': call(
            name('torch._tensor', '_rebuild_from_type_v2'), evaluate, b'N', code, EMPTY_DICT
        ),
        'a persistent id': b'(' + text('module') + evaluate + code + b'tQ',
        'deep nesting': b'(' * 5000 + b't' * 5000,
    }


def in_zip(opcodes):
    """As torch.save writes it today."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02' + opcodes + STOP)
        archive.writestr('archive/version', b'3\n')
        archive.writestr('archive/byteorder', b'little')
    return file.getvalue()


def in_legacy(opcodes):
    """As torch.save wrote it before 1.6."""
    first = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})
    parts = [pickle.dumps(part, 2) for part in first]
    return b''.join([*parts, b'\x80\x02' + opcodes + STOP, pickle.dumps([], 2)])


def in_bare_pickle(opcodes):
    return b'\x80\x02' + opcodes + STOP


def in_tar(opcodes):
    """As the oldest torch.save wrote it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        for part in ('sys_info', 'pickle', 'storages', 'tensors'):
            data = b'\x80\x02' + opcodes + STOP
            info = tarfile.TarInfo(part)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


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


@pytest.mark.parametrize('wrap', [in_zip, in_legacy, in_bare_pickle, in_tar])
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
