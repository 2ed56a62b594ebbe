"""What commands read from files stays data, through the doors of the libraries, too."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmengine.runner import checkpoint as mmengine_loading

from mmca.cli.main import guarded, run_command
from mmca.config.reader import read_config
from mmca.engine.safe_loading import load_checkpoints_safely, load_from_local, load_weights_only
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
def test_the_libraries_loader_executes_nothing(zipped, tmp_path, capsys, monkeypatch):
    """A file whose weights fit, which the checks accept: what is beside them is not built."""
    model, target, path = torch.nn.Linear(2, 2), tmp_path / 'planted', tmp_path / 'hostile.pth'
    content = {'state_dict': model.state_dict(), 'planted': Planted(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    # Without mmca's own loader, which commands of earlier tests have registered.
    monkeypatch.setattr(CheckpointLoader, '_schemes', {'': mmengine_loading.load_from_local})
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


class Environment(torch.utils.data.Dataset):
    """Samples say whether the process that loads them refuses code."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD')


@pytest.mark.parametrize('start', ['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def test_data_workers_refuse_code_too(start):
    load_weights_only()
    loader = torch.utils.data.DataLoader(
        Environment(), num_workers=1, multiprocessing_context=start, collate_fn=list
    )
    assert list(loader) == [['1'], ['1']]


@pytest.mark.slow
def test_processes_of_torchrun_refuse_code_too(tiny_run, tmp_path):
    """Each is a command of mmca; the environment of torchrun itself asks for the opposite."""
    config = tiny_run[0]
    target, path = tmp_path / 'planted', tmp_path / 'hostile.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'planted': Planted(target)}, path)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2']
    command += ['--master_port', '29641', '-m', 'mmca', 'test', config, str(path)]
    done = subprocess.run([*command, '--launcher', 'pytorch'], capture_output=True, text=True)
    assert done.returncode != 0
    # A traceback of torchrun's own follows, which says that a process failed.
    lines = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1
    assert 'hostile.pth' in lines[0]
    assert not target.exists()


@pytest.mark.parametrize('as_mmca', [False, True])
def test_what_mmengine_itself_saves_is_still_loaded(as_mmca, tmp_path, monkeypatch):
    from mmengine.logging import HistoryBuffer
    from mmengine.runner.checkpoint import CheckpointLoader

    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    load_weights_only()
    if as_mmca:
        load_checkpoints_safely()
    model, log = torch.nn.Linear(2, 2), HistoryBuffer()
    log.update(1.0)
    path = tmp_path / 'own.pth'
    torch.save({'state_dict': model.state_dict(), 'message_hub': {'log_scalars': log}}, path)
    loaded = load_checkpoint(model, str(path))['message_hub']['log_scalars']
    assert loaded.statistics('mean') == 1.0


def test_mmengines_loader_reads_as_mmca_does(tmp_path, monkeypatch):
    """After `load_checkpoints_safely`, also an address, and what would fill the memory."""
    from mmengine.runner.checkpoint import CheckpointLoader

    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    load_weights_only()
    load_checkpoints_safely()
    model, target = torch.nn.Linear(2, 2), tmp_path / 'planted'
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'good.pth')
    torch.save({'state_dict': model.state_dict(), 'x': Planted(target)}, tmp_path / 'bad.pth')
    wide = torch.zeros(1).expand(1 << 40)
    torch.save({'state_dict': {'weight': wide}}, tmp_path / 'wide.pth')
    load_checkpoint(model, str(tmp_path / 'good.pth'))
    for name, message in (
        ('bad.pth', 'more than weights'),
        ('wide.pth', 'claims 4398046511104 bytes'),
        ('none.pth', 'checkpoint not found'),
    ):
        with pytest.raises(InputError, match=message):
            load_checkpoint(model, str(tmp_path / name))
    with pytest.raises(InputError, match='cannot download'):
        load_checkpoint(model, 'http://127.0.0.1:9/a.pth')
    assert not target.exists()


def test_a_log_names_its_own_methods_alone(tmp_path):
    class Attribute:
        def __reduce__(self):
            return getattr, (torch.Tensor, 'numpy')

    path = tmp_path / 'hostile.pth'
    torch.save({'state_dict': {'a': torch.ones(1)}, 'x': Attribute()}, path)
    with pytest.raises(InputError, match='more than weights') as error:
        load_from_local(str(path))
    assert 'numpy' in str(error.value.__cause__)


COMMANDS = [
    ['config', '--print'],
    ['config', '--copy', 'copy.py'],
    ['check'],
    ['flops'],
    ['train'],
    ['test', 'a.pth'],
    ['inspect', '--config'],
]


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_every_command_reads_yaml_as_data(command, tmp_path, fail, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.pth')
    config = tmp_path / 'config.yaml'
    config.write_text(f'default_scope: !!python/object/apply:os.system ["touch {tmp_path}/x"]\n')
    name, *rest = command
    words = ['a.pth', *rest, config] if name == 'inspect' else [config, *rest]
    assert 'could not determine a constructor for the tag' in fail(name, *words)
    assert not (tmp_path / 'x').exists()


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
    path = written(tmp_path / f'a.{suffix}', Planted(tmp_path / 'planted'))
    with pytest.raises(InputError, match=r'names io\.open, which could run code'):
        fileio.load(path)
    assert not (tmp_path / 'planted').exists()


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_data_is_read(protocol, tmp_path):
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    data = {'boxes': boxes, 'score': np.float64(0.5), 'names': OrderedDict(a={1}), 'b': b'\xff'}
    path = written(tmp_path / 'a.pkl', data, protocol)
    read = fileio.load(path)
    assert (read.pop('boxes') == data.pop('boxes')).all()
    assert read == data


def written(path, data, protocol=2):
    """Write a pickle, after a config was read, as in every command; its path."""
    (path.parent / 'config.yaml').write_text('default_scope: mmdet\n')
    read_config(str(path.parent / 'config.yaml'))
    fileio.dump(data, path, protocol=protocol)
    return path


def test_an_unpickling_error_is_one_line(capsys):
    def fail():
        raise pickle.UnpicklingError('many\nlines')

    assert guarded(fail) == 2
    error_line(capsys.readouterr().err)
