"""Real runs that end early: a full disk, a process that dies, a loss of NaN."""

import os
import subprocess

import pytest

from tests.helpers import iteration_of
from tests.stress import forked
from tests.stress.good_data import write_config, write_good

PLUGIN = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS

DO = dict(
    memory='raise MemoryError', error='raise RuntimeError("wrong")',
    exit='os._exit(7)', kill='os.kill(os.getpid(), signal.SIGKILL)')

@HOOKS.register_module()
class FillDisk(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4:
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
        if results['img_path'].endswith('2.jpg'):
            exec(DO[self.how])
        return results
"""
SETTINGS = """
custom_imports = dict(imports=['mmca', 'faulty_plugin'], allow_failed_imports=False)
train_cfg.update(max_epochs=3, val_interval=10)
default_hooks['checkpoint'].update(interval=1, max_keep_ckpts=1)
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train a small segmentor, three iterations an epoch."""
    write_good(tmp_path, 'ade')
    (tmp_path / 'faulty_plugin.py').write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))

    def start(text, *options):
        config = str(write_config(tmp_path, 'ade', SETTINGS + text))
        argv = ['train', config, '--cfg-options', *options]
        return forked.run(lambda: forked.mmca(argv), tmp_path)

    return start


@pytest.mark.stress
@pytest.mark.parametrize('how', ['exit', 'kill', 'error', 'memory'])
def test_a_loading_process_dies(how, train):
    outcome = train(
        "steps = train_dataloader['dataset']['pipeline']\n"
        f"steps.insert(1, dict(type='Die', how={how!r}))\n"
        "train_dataloader['num_workers'] = 2"
    )
    assert outcome.code in (1, 2)
    assert len(outcome.errors) == 1


def test_a_loss_of_nan(train):
    """The hook is added where a config has none."""
    outcome = train("model['decode_head']['loss_decode'] = dict(\n"
                    "    type='CrossEntropyLoss', loss_weight=float('nan'))")  # fmt: skip
    assert outcome.refused
    assert 'the loss has been nan since iteration 1' in outcome.errors[0]


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=40M', 'mmca-test', str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip('needs the right to mount a file system')
    yield disk
    subprocess.run(['umount', str(disk)], check=True)


def test_a_full_disk_keeps_the_last_checkpoint(train, small_disk):
    work = small_disk / 'work'
    place = f'work_dir={work}'
    outcome = train("custom_hooks = [dict(type='FillDisk')]", place)
    assert outcome.code == 1
    assert 'no space left for' in outcome.errors[0]
    assert [path.name for path in work.glob('*.pth')] == ['epoch_1.pth']
    assert iteration_of(work / 'epoch_1.pth') == 3
    os.unlink(small_disk / 'ballast')
    assert train('', place, 'resume=True').code == 0
    assert iteration_of(work / 'epoch_3.pth') == 9
