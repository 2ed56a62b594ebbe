"""Flags that cannot work are refused, in one line."""

import pytest
import torch
from mmca.checks.flags import RANKS, is_first_process

from tests.helpers import CLS, CONFIGS, DET, SEG, THREE, needs_mmpretrain


@pytest.mark.skipif(torch.cuda.is_available(), reason='works with a GPU')
def test_amp_without_gpu(fail):
    assert '--amp needs a GPU and the device here is cpu' in fail('train', DET, '--amp')


def test_auto_scale_lr_without_base_batch_size(fail, config):
    path = config(DET, 'auto_scale_lr = dict(_delete_=True, enable=False)')
    assert 'add auto_scale_lr = dict(' in fail('train', path, '--auto-scale-lr')


def test_launcher_without_its_launcher(fail, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    assert 'tools/dist_train.sh' in fail('train', DET, '--launcher', 'pytorch')


def test_tta(run, fail, tmp_path):
    assert 'has no masks' in fail('test', DET, 'x.pth', '--tta')
    assert run('test', SEG, 'http://x/y.pth', '--tta').code == 0
    runtime = [
        f'{CONFIGS}/_base_/{name}.py'
        for name in ('models/semantic_fpn', 'datasets/ade20k', 'default_runtime')
    ]
    path = tmp_path / 'plain.py'
    path.write_text(f"_base_ = {runtime}\ndefault_scope = 'mmseg'\n")
    assert '--tta: the config has no tta_model' in fail('test', path, 'x.pth', '--tta')


def test_out_of_mmdet_is_a_pickle(fail):
    assert 'must end in .pkl' in fail('test', DET, 'x.pth', '--out', 'result.json')


@needs_mmpretrain
def test_flags_of_one_library(run, fail, folders):
    text = fail('train', DET, '--no-validate')
    assert '--no-validate: mmdet has no such flag; use --cfg-options val_cfg=None' in text
    text = fail('test', CLS, 'x.pth', '--out', 'result.json')
    assert '--out result.json: the name must end in .pkl' in text
    text = fail('test', CLS, 'x.pth', '--out', 'a.txt', '--out-item', 'metrics')
    assert '--out a.txt: the name must end in .json' in text
    assert 'needs --out FILE' in fail('test', CLS, 'x.pth', '--out-item', 'pred')
    argv = ['http://x/y.pth', '--out', 'a.json', '--out-item', 'metrics']
    assert run('test', CLS, *argv, *THREE).argv[2:7] == argv


@pytest.mark.parametrize(
    ('launcher', 'environment', 'first'),
    [
        ('none', {}, True),
        ('none', {'SLURM_PROCID': '3'}, True),  # its own run in a task of slurm's
        ('none', {'RANK': '1'}, False),
        ('pytorch', {'RANK': '0', 'LOCAL_RANK': '0'}, True),
        ('pytorch', {'RANK': '8', 'LOCAL_RANK': '0'}, False),
        ('slurm', {'SLURM_PROCID': '0', 'RANK': '1'}, True),
        ('slurm', {'SLURM_PROCID': '1'}, False),
        ('mpi', {'OMPI_COMM_WORLD_RANK': '0'}, True),
        ('mpi', {'OMPI_COMM_WORLD_RANK': '2'}, False),
        ('mpi', {'PMI_RANK': '2'}, False),
    ],
)
def test_the_first_process_of_each_launcher(monkeypatch, launcher, environment, first):
    for names, _ in RANKS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process(launcher) == first


@pytest.mark.parametrize(('launcher', 'command'), [('slurm', 'srun'), ('mpi', 'mpirun')])
def test_other_launchers_without_theirs(fail, monkeypatch, launcher, command):
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    line = fail('train', DET, '--launcher', launcher)
    assert f'--launcher {launcher} needs its launcher: use {command}' in line
