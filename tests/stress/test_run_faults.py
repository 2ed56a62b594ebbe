"""Real runs that end early: no memory, a full disk, a process that dies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.stress.malformed_configs import write_detector

from tests.helpers import ROOT, error_line, iteration_of

pytestmark = pytest.mark.stress
PLUGIN = """
import os, signal
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS

DO = dict(
    cuda='raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")',
    cpu='torch.empty(1 << 60)', memory='raise MemoryError', error='raise RuntimeError("wrong")',
    exit='os._exit(7)', kill='os.kill(os.getpid(), signal.SIGKILL)',
    segfault='os.kill(os.getpid(), signal.SIGSEGV)')

@HOOKS.register_module()
class Fail(Hook):
    def __init__(self, how):
        self.how = how
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            exec(DO[self.how])

@HOOKS.register_module()
class FillDisk(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            with open(os.path.dirname(runner.work_dir) + '/ballast', 'wb', buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass

@TRANSFORMS.register_module()
class Die:
    def __init__(self, how):
        self.how = how
    def __call__(self, results):
        if results['img_id'] == 2:
            exec(DO[self.how])
        return results
"""
SHORT = """
custom_imports = dict(imports=['mmca', 'faulty_plugin'], allow_failed_imports=False)
train_cfg = dict(max_epochs=3, val_interval=10)
default_hooks = dict(
    logger=dict(interval={interval}), checkpoint=dict(interval=1, max_keep_ckpts={keep}))
"""
FULL = "custom_hooks = [dict(type='FillDisk')]"


class Runs:
    """Trainings of a small detector in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.base, self.folder = write_detector(folder), folder
        (folder / 'faulty_plugin.py').write_text(PLUGIN)

    def train(self, work: Path, text: str, *flags: str, interval: int = 1000, keep: int = 1):
        path = self.folder / 'case.py'
        settings = SHORT.format(interval=interval, keep=keep)
        path.write_text(f'_base_ = {str(self.base)!r}\n{settings}{text}\n')
        return subprocess.run(
            [sys.executable, '-m', 'mmca', 'train', path, '--work-dir', work, *flags],
            env={**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{self.folder}'},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=40M', 'mmca-test', str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip('needs the right to mount a file system')
    yield disk
    subprocess.run(['umount', str(disk)], check=True)


def test_no_memory(runs, tmp_path, tally):
    kinds = 'cuda', 'cpu', 'memory'
    survived = 0
    for how in kinds:
        run = runs.train(tmp_path / how, f"custom_hooks = [dict(type='Fail', how={how!r})]")
        line = error_line(run.stderr)
        survived += run.returncode == 2 and 'batch_size (now 2)' in line and 'with_cp' in line
        survived -= '--resume (last checkpoint' not in line
    tally('no memory in training: one line, what to change', len(kinds), survived)


def test_a_loading_process_dies(runs, tmp_path, tally):
    kinds = {
        'exit': 'exit code 7',
        'kill': 'signal: Killed',
        'segfault': 'signal: Segmentation fault',
        'error': 'RuntimeError: wrong',
        'memory': 'out of memory',
    }
    survived = 0
    for how, text in kinds.items():
        run = runs.train(
            tmp_path / how,
            f"die = dict(type='Die', how={how!r})\n"
            'pipeline = [*_base_.train_pipeline[:2], die, *_base_.train_pipeline[2:]]\n'
            'train_dataloader = dict(num_workers=2, dataset=dict(pipeline=pipeline))',
        )
        whole = 'Traceback' not in run.stdout + run.stderr
        survived += run.returncode == 2 and whole and text in run.stderr
    tally('a process that loads data dies: one line with the cause', len(kinds), survived)


@pytest.mark.parametrize(
    ('keep', 'interval'), [(1, 1000), (3, 1000), (1, 1)], ids=['keep 1', 'keep 3', 'log']
)
def test_a_full_disk(runs, small_disk, tally, keep, interval):
    work = small_disk / 'work'
    run = runs.train(work, FULL, keep=keep, interval=interval)
    survived = run.returncode == 2 and 'make room, then go on with' in error_line(run.stderr)
    # The first epoch's checkpoint is whole, and nothing else pretends to be one.
    names = {path.name for path in work.glob('*.pth*')} | {path.name for path in work.glob('last*')}
    survived &= names == {'epoch_1.pth', 'last_checkpoint'}
    survived &= iteration_of(work / 'epoch_1.pth') == 2
    (small_disk / 'ballast').unlink()
    survived &= runs.train(work, '', '--resume', keep=keep).returncode == 0
    survived &= iteration_of(work / 'epoch_3.pth') == 6
    tally(f'full disk while training ({keep} checkpoints, log every {interval})', 1, survived)


def test_a_loss_of_nan_in_a_config_of_ones_own(runs, tmp_path, tally):
    """The hook is added where a config has none."""
    text = '_base_.default_hooks.pop("finite_loss")\n'
    text += "model = dict(rpn_head=dict(loss_cls=dict(loss_weight=float('nan'))))"
    run = runs.train(tmp_path / 'nan', text)
    line = error_line(run.stderr)
    good = run.returncode == 2 and 'the loss has been nan since iteration 1' in line
    tally('a loss of NaN in a config without our hook', 1, good)
