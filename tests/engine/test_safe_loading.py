"""Files that the libraries read stay data: nothing in them is executed."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint

from mmca.config.reader import read_config
from mmca.engine.safe_loading import load_from_local, refuse_code
from mmca.errors import InputError
from tests.helpers import needs_new_torch, python


class Planted:
    """Creates a file when it is built."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_importing_the_engine_is_enough(tmp_path):
    """As a shipped config does by `custom_imports`, in whatever tool reads it."""
    path = tmp_path / 'hostile.pth'
    content = {'state_dict': {'weight': torch.ones(2, 2)}, 'x': Planted(tmp_path / 'y')}
    torch.save(content, path)
    code = f"""
import torch, mmca.engine
from mmengine.runner import load_checkpoint
model = torch.nn.Linear(2, 2)
load_checkpoint(model, {str(path)!r})
assert (model.weight == 1).all()
"""
    assert python('-c', code).returncode == 0
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


def test_an_address_is_read_by_our_own_loader(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(InputError, match='cannot download'):
        load_checkpoint(torch.nn.Linear(2, 2), 'http://127.0.0.1:9/a.pth')


@pytest.mark.parametrize('tag', ['python/object/apply:os.system', 'python/name:os.system'])
def test_yaml_builds_no_objects(tag, tmp_path):
    (tmp_path / 'base.yaml').write_text('default_scope: mmdet\nmodel: {sizes: [1, 2.5]}\n')
    (tmp_path / 'config.py').write_text("_base_ = 'base.yaml'")
    assert read_config(str(tmp_path / 'config.py')).model.sizes == [1, 2.5]
    (tmp_path / 'base.yaml').write_text(f'default_scope: !!{tag} ["touch {tmp_path}/planted"]\n')
    with pytest.raises(InputError, match='could not determine a constructor for the tag'):
        read_config(str(tmp_path / 'config.py'))
    assert not (tmp_path / 'planted').exists()


def test_a_dumped_config_is_read(tmp_path):
    config = Config({'default_scope': 'mmdet', 'sizes': [(1, 2), {'x': (3,)}]})
    config.dump(tmp_path / 'a.yaml')
    assert read_config(str(tmp_path / 'a.yaml')).sizes == config.sizes


def test_a_pickle_of_the_libraries_runs_nothing(tmp_path):
    """Annotations, proposals, class weights: mmengine's `load` reads them all."""
    fileio.dump(Planted(tmp_path / 'planted'), tmp_path / 'a.pickle')
    with pytest.raises(InputError, match=r'uses io\.open, which could run code'):
        fileio.load(tmp_path / 'a.pickle')
    assert not (tmp_path / 'planted').exists()


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_data_is_read(protocol, tmp_path):
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    data = {'boxes': boxes, 'score': np.float64(0.5), 'names': OrderedDict(a={1}), 'b': b'\xff'}
    fileio.dump(data, tmp_path / 'a.pkl', protocol=protocol)
    read = fileio.load(tmp_path / 'a.pkl')
    assert (read.pop('boxes') == data.pop('boxes')).all()
    assert read == data
