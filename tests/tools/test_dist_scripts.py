"""dist_train.sh and dist_test.sh: their arguments, and two processes against one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT

CONFIG = 'configs/mini/upernet_ca_swin_mini.py'
# Nothing random, nothing that depends on one process's batch. SGD, because Adam turns gradients
# that are rounding errors into full steps. One epoch: 16 images.
DETERMINISTIC = """
model.backbone.arch._delete_=True model.backbone.arch.embed_dims=16
model.backbone.arch.depths=(1,1,2,1) model.backbone.arch.num_heads=(1,2,4,8)
model.backbone.drop_path_rate=0.0 model.decode_head.in_channels=[16,32,64,128]
model.auxiliary_head.in_channels=64 train_dataloader.dataset.pipeline.2.prob=[0.0,0.0]
train_dataloader.num_workers=0 train_dataloader.persistent_workers=False
train_cfg.max_iters=4 train_cfg.val_interval=4 default_hooks.logger.interval=1
optim_wrapper.optimizer.type=SGD optim_wrapper.optimizer.lr=1.0 param_scheduler.0.end=1
randomness.seed=3
"""
OPTIONS = DETERMINISTIC.split()
for head in ('model.decode_head', 'model.auxiliary_head'):
    for option in ('dropout_ratio=0.0', 'norm_cfg.type=GN', 'norm_cfg.num_groups=4'):
        OPTIONS.append(f'{head}.{option}')


def train(command, work_dir, batch_size, data_root):
    """Train from seeded weights; returns the weights afterward."""
    options = [*OPTIONS, f'train_dataloader.batch_size={batch_size}']
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    env = {**os.environ, 'PATH': path, 'MMCA_DATA_ROOT': str(data_root), 'PORT': '29631'}
    command = [*command, '--work-dir', str(work_dir), '--cfg-options', *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'find_unused_parameters=True' not in done.stdout
    return torch.load(work_dir / 'iter_4.pth', weights_only=False)['state_dict']


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    drawn = [sys.executable, 'tools/make_mini.py', '--out', str(tmp_path / 'mini')]
    subprocess.run([*drawn, '--train', '16', '--val', '2'], cwd=ROOT, check=True)
    one = train([sys.executable, 'tools/train.py', CONFIG], tmp_path / 'one', 4, tmp_path)
    two = train(['tools/dist_train.sh', CONFIG, '2'], tmp_path / 'two', 2, tmp_path)
    other = train([sys.executable, 'tools/train.py', CONFIG], tmp_path / 'other', 2, tmp_path)
    assert one.keys() == two.keys()
    far = max((one[name] - other[name]).abs().max() for name in one)
    near = max((one[name] - two[name]).abs().max() for name in one)
    assert near < min(1e-4, 0.01 * far)


@pytest.mark.parametrize('command', ['tools/dist_train.sh c.py --amp', 'tools/dist_test.sh c.py 2'])
def test_missing_arguments_print_the_usage(command):
    done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f'usage: {command.split()[0]} CONFIG ')


def test_quoted_arguments_are_passed_on(tmp_path):
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    env = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'NNODES': '2', 'PORT': '1234'}
    words = ('my config.py', 'x.pth', '3', '--show-dir', 'a b')
    done = subprocess.check_output([ROOT / 'tools/dist_test.sh', *words], text=True, env=env)
    argv = done.splitlines()
    assert argv[:2] == ['-m', 'torch.distributed.run']
    assert {'--nnodes=2', '--node_rank=0', '--master_port=1234', '--nproc_per_node=3'} < set(argv)
    assert argv[-6:] == ['my config.py', 'x.pth', '--launcher', 'pytorch', '--show-dir', 'a b']
