"""What commands read from files stays data, through the doors of the libraries, too."""

import os
import pickle

import pytest
import torch
from mmengine.runner import load_checkpoint

from mmca.cli.config_file import read_config
from mmca.cli.main import guarded, run_command
from mmca.cli.trust import load_weights_only
from mmca.errors import InputError
from tests.helpers import error_line


class Planted:
    """Creates a file when it is built."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    yield
    os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)


@pytest.mark.parametrize('zipped', [True, False])
def test_the_libraries_loader_executes_nothing(zipped, tmp_path, capsys):
    """A file whose weights fit, which the checks accept: what is beside them is not built."""
    model, target, path = torch.nn.Linear(2, 2), tmp_path / 'planted', tmp_path / 'hostile.pth'
    content = {'state_dict': model.state_dict(), 'planted': Planted(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    load_weights_only()
    assert guarded(lambda: load_checkpoint(model, str(path)) and 0) == 2
    assert 'holds more than weights and is not loaded' in error_line(capsys.readouterr().err)
    assert not target.exists()
    # The same file would be executed otherwise.
    del os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD']
    load_checkpoint(model, str(path))
    assert target.exists()


def test_every_command_sees_to_it(capsys):
    assert run_command('config', ['--list']) == 0
    assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'
    assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ


def test_what_mmengine_itself_saves_is_still_loaded(tmp_path):
    from mmengine.logging import HistoryBuffer

    load_weights_only()
    model, log = torch.nn.Linear(2, 2), HistoryBuffer()
    log.update(1.0)
    path = tmp_path / 'own.pth'
    torch.save({'state_dict': model.state_dict(), 'message_hub': {'log_scalars': log}}, path)
    assert load_checkpoint(model, str(path))['message_hub']['log_scalars'].mean() == 1.0


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


def test_an_unpickling_error_is_one_line(capsys):
    def fail():
        raise pickle.UnpicklingError('many\nlines')

    assert guarded(fail) == 2
    error_line(capsys.readouterr().err)
