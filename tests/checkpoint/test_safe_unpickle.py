"""Hostile checkpoint files: no code runs, nothing crashes, one line says what is wrong."""

import argparse
import json
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmca.backbones import CADeiT
from mmca.checkpoint import load_pretrained, read_checkpoint, safe_unpickle
from mmca.checkpoint.reader import load_whole
from mmca.engine.safe_loading import load_from_local
from mmca.errors import InputError
from tests.hostile import EMPTY_DICT, STOP, WRAPS, corpus, odd_files, text
from tests.tiny import SHORT_DEIT

READ = """
import json, sys
from mmca.checkpoint.reader import load_whole, read_checkpoint
from mmca.errors import InputError
for path in json.load(sys.stdin):
    for read in (read_checkpoint, load_whole):
        try:
            read(path)
            print('read')
        except InputError as error:
            print('refused', str(error).count(chr(10)))
        sys.stdout.flush()
"""


def read_elsewhere(paths):
    """Read files in another process, since a file may try to crash it; two words a file."""
    command = [sys.executable, '-c', READ]
    done = subprocess.run(command, input=json.dumps(paths), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        (b'', 'the file is empty'),
        (b'\n<!DOCTYPE html>', 'the file is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        (b'hello', 'it is damaged, incomplete or not a checkpoint'),
    ],
)
def test_other_files_are_named(tmp_path, content, expected):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    for read in (read_checkpoint, load_whole):
        with pytest.raises(InputError, match=expected):
            read(path)


def test_torchscript_is_named(tmp_path):
    path = tmp_path / 'x.pth'
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(InputError, match=r'x\.pth is a TorchScript program: save the state_dict'):
        read_checkpoint(path)


@pytest.mark.parametrize('wrap', WRAPS.values(), ids=WRAPS)
def test_nothing_in_a_file_is_executed(wrap, tmp_path):
    target, paths = tmp_path / 'planted', []
    for label, opcodes in corpus(target).items():
        # Once as the whole content, once beside weights as a part of a dict.
        inside = EMPTY_DICT + text('model') + EMPTY_DICT + b's' + text('x') + opcodes + b's'
        for kind, content in (('whole', opcodes), ('inside', inside)):
            path = tmp_path / f'{label} {kind}.pth'
            path.write_bytes(wrap(content))
            paths.append(str(path))
    assert read_elsewhere(paths) == ['refused 0'] * 2 * len(paths)
    assert not target.exists()


def test_odd_files_are_refused_in_one_line(tmp_path):
    paths, folder = [], tmp_path / 'files'
    folder.mkdir()
    for name, content in odd_files({'a': torch.ones(4), 'b': torch.ones(2)}, folder).items():
        (folder / name).write_bytes(content)
        paths.append(str(folder / name))
    with zipfile.ZipFile(folder / 'names that leave the folder.pth', 'w') as archive:
        archive.writestr('../planted', b'x')
        archive.writestr('archive/data.pkl', b'\x80\x02' + EMPTY_DICT + STOP)
        paths.append(archive.filename)
    assert set(read_elsewhere(paths)) == {'refused 0'}
    assert list(tmp_path.iterdir()) == [folder]
    assert not (folder / 'x').exists()


@pytest.mark.parametrize('zipped', [True, False])
def test_contents_beside_weights_are_skipped_and_meta_is_plain(zipped, tmp_path):
    log = HistoryBuffer()
    log.update(1.0)
    names = {'classes': ('disc', 'star'), 'palette': [(1, 2, 3), (4, 5, 6)]}
    meta = {'dataset_meta': names, 'iter': 5, 'numpy': np.float64(3), 'odd': argparse.Namespace()}
    meta['itself'] = meta
    content = {
        'state_dict': OrderedDict(a=torch.arange(3.0), b=torch.ones(2, dtype=torch.bfloat16)),
        'meta': meta,
        'message_hub': {'loss': log, 'scalars': [np.float64(3), np.int8(3)], 'array': np.ones(2)},
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
    assert checkpoint.meta == {'dataset_meta': names, 'iter': 5, 'numpy': 3.0}


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('by_torch', [True, False])
def test_the_state_of_a_training_is_read_whole(by_torch, zipped, tmp_path, monkeypatch):
    """By torch, or by mmca as before torch 2.6."""
    if not by_torch:
        monkeypatch.setattr(safe_unpickle, 'HAS_SAFE_LOAD', False)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    info = {'best_score': np.float64(0.5), 'epoch': 3, 'best_ckpt': 'best.pth'}
    state = {'state_dict': layer.state_dict(), 'optimizer': optimizer.state_dict()}
    path = tmp_path / 'epoch_3.pth'
    torch.save({**state, 'info': info}, path, _use_new_zipfile_serialization=zipped)
    found = load_from_local(str(path))
    assert found['info'] == info
    for key in state:
        torch.testing.assert_close(found[key], state[key], rtol=0, atol=0)
    optimizer.load_state_dict(found['optimizer'])


class Config(dict):
    """A mapping of a class that files name, as yacs and addict have one."""


def test_weights_in_other_mappings_and_with_attributes(tmp_path):
    tensor = torch.arange(3.0)
    tensor.tag = 'odd'
    weights = defaultdict(float, a=tensor, b=torch.nn.Parameter(tensor[1:]))
    torch.save(Config(model=weights, epoch=3), tmp_path / 'odd.pth', pickle_protocol=4)
    checkpoint = read_checkpoint(tmp_path / 'odd.pth')
    assert (checkpoint.keys, checkpoint.skipped) == (('model',), ('epoch',))
    assert [value.tolist() for value in checkpoint.tensors.values()] == [[0, 1, 2], [1, 2]]


def test_hostile_meta_is_cut(tmp_path):
    """Lists of references that would expand to 10 ** 30 items, and nesting without end."""
    bomb, deep = ['x'], ()
    for _ in range(30):
        bomb = [bomb] * 10
    for _ in range(500):
        deep = (deep,)
    path = tmp_path / 'bomb.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': {'b': bomb, 'd': deep, 'e': 1}}, path)
    assert read_checkpoint(path).meta['e'] == 1


class Planted:
    """Runs a call when unpickled."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('zipped', [True, False])
def test_the_authors_files_load_and_nothing_is_executed(zipped, tmp_path, monkeypatch):
    """CA-DeiT's release with calls planted in it; its yacs config's class is not installed here."""
    target, path = tmp_path / 'planted', tmp_path / 'ca_deit.pth'
    model = CADeiT(SHORT_DEIT)
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    calls = [Planted(open, (str(target), 'w')), Planted(torch.save, ({}, str(target)))]
    with monkeypatch.context() as patch:
        module = types.ModuleType('vanished_yacs')
        exec('class CfgNode(dict): ...', module.__dict__)
        patch.setitem(sys.modules, 'vanished_yacs', module)
        config = module.CfgNode(MODEL=module.CfgNode(TYPE='ca_deit'), planted=calls)
        config.__dict__['__immutable__'] = True
        content = {
            'model': state | {'head.weight': torch.zeros(10, 16), 'head.bias': torch.zeros(10)},
            'optimizer': torch.optim.AdamW(torch.nn.Linear(2, 2).parameters()).state_dict(),
            'max_accuracy': np.float32(75.0),
            'config': config,
            'planted': calls,
        }
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert checkpoint.keys == ('model',)
    assert set(checkpoint.skipped) == set(content) - {'model'}
    message = load_pretrained(model, path)
    assert not target.exists()
    assert message.splitlines()[0].endswith(' loaded, 2 dropped')
    assert 'family: CA-DeiT' in message
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
