"""Files that the libraries read stay data: nothing in them is executed."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint

from mmca.config.reader import read_config
from mmca.engine.safe_loading import load_from_local, refuse_code
from mmca.errors import InputError
from tests.helpers import ROOT, needs_new_torch


class Planted:
    """Creates a file when it is built."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('zipped', [True, False])
def test_importing_the_engine_is_enough(zipped, tmp_path):
    """As a shipped config does by `custom_imports`, in whatever tool reads it."""
    path = tmp_path / 'hostile.pth'
    content = {'state_dict': {'weight': torch.ones(2, 2)}, 'x': Planted(tmp_path / 'y')}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    code = f"""
import torch, mmca.engine
from mmengine.runner import load_checkpoint
model = torch.nn.Linear(2, 2)
load_checkpoint(model, {str(path)!r})
assert (model.weight == 1).all()
"""
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True)
    assert not (tmp_path / 'y').exists()


def test_the_commands_make_torch_itself_refuse_code(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save({'x': Planted(tmp_path / 'y')}, tmp_path / 'a.pth')
    refuse_code()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'a.pth', weights_only=False)
    assert not (tmp_path / 'y').exists()
    del os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD']


@needs_new_torch
def test_what_mmengine_itself_saves_is_loaded_whole(tmp_path):
    log = HistoryBuffer()
    log.update(1.0)
    path = tmp_path / 'own.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'message_hub': {'log_scalars': log}}, path)
    assert load_from_local(str(path))['message_hub']['log_scalars'].statistics('mean') == 1.0


@needs_new_torch
def test_a_log_names_its_own_methods_alone(tmp_path):
    class Attribute:
        def __reduce__(self):
            return getattr, (torch.Tensor, 'numpy')

    path = tmp_path / 'hostile.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'x': Attribute()}, path)
    assert load_from_local(str(path)).keys() == {'state_dict', 'meta'}


def test_a_file_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(InputError, match='none'):
        load_from_local(str(tmp_path / 'none.pth'))
    with pytest.raises(InputError, match='cannot download'):
        load_checkpoint(torch.nn.Linear(2, 2), 'http://127.0.0.1:9/a.pth')


@pytest.mark.parametrize('tag', ['python/object/apply:os.system', 'python/name:os.system'])
@pytest.mark.parametrize('as_base', [False, True])
def test_yaml_builds_no_objects(tag, as_base, tmp_path):
    target, path = tmp_path / 'planted', tmp_path / 'config.yaml'
    path.write_text(f'default_scope: !!{tag} ["touch {target}"]\n')
    if as_base:
        (tmp_path / 'config.py').write_text("_base_ = 'config.yaml'")
        path = tmp_path / 'config.py'
    with pytest.raises(InputError, match='could not determine a constructor for the tag'):
        read_config(str(path))
    assert not target.exists()


def test_yaml_of_data_is_read(tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text('default_scope: mmdet\nmodel: {type: X, sizes: [1, 2.5]}\n')
    assert read_config(str(path)).model.sizes == [1, 2.5]


@pytest.mark.parametrize('suffix', ['pkl', 'pickle'])
def test_a_pickle_of_the_libraries_runs_nothing(suffix, tmp_path):
    """Annotations, proposals, class weights: mmengine's `load` reads them all."""
    path = tmp_path / f'a.{suffix}'
    fileio.dump(Planted(tmp_path / 'planted'), path)
    with pytest.raises(InputError, match=r'names io\.open, which could run code'):
        fileio.load(path)
    assert not (tmp_path / 'planted').exists()


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_data_is_read(protocol, tmp_path):
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    data = {'boxes': boxes, 'score': np.float64(0.5), 'names': OrderedDict(a={1}), 'b': b'\xff'}
    fileio.dump(data, tmp_path / 'a.pkl', protocol=protocol)
    read = fileio.load(tmp_path / 'a.pkl')
    assert (read.pop('boxes') == data.pop('boxes')).all()
    assert read == data
