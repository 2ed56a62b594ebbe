"""The launcher: configs, flags, errors and interrupts, and one real run from end to end."""

import importlib
import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from PIL import Image

from mmca.errors import InputError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'tools'))
launcher = importlib.import_module('launcher')
checks = importlib.import_module('checks')
config_file = importlib.import_module('config_file')

DET = str(ROOT / 'configs/coco/maskrcnn_ca_pvt_t.py')
SEG = str(ROOT / 'configs/ade20k/fpn_ca_pvt_t.py')
CLS = str(ROOT / 'configs/imagenet/ca_pvt_t.py')
needs_mmpretrain = pytest.mark.skipif(
    find_spec('mmpretrain') is None, reason='needs requirements-pretrain.txt'
)


@pytest.fixture(autouse=True)
def forget():
    """Forget mmengine's global state, such as loggers that hold the streams of the test before."""

    def clear():
        for kind in (MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
            kind._instance_dict.clear()

    clear()
    return clear


def fail(argv, capsys, tool='train') -> str:
    """The error of a run that must fail."""
    assert launcher.main(tool, [str(arg) for arg in argv]) == 2
    out, err = capsys.readouterr()
    assert 'Traceback' not in out + err
    assert err.startswith('error: ')
    assert err.count('\n') == 1
    return err


def test_missing_config(capsys):
    assert 'config not found: configs/absent.py' in fail(['configs/absent.py'], capsys)


@pytest.mark.parametrize(
    ('name', 'text', 'expected'),
    [
        ('c.txt', '', 'not a config: {}; its name must end in .py'),
        ('c.py', 'a = 1\nb = (\n', 'SyntaxError: '),
        ('c.py', 'a = 1\nb = (\n', 'line 2'),
        ('c.py', 'a = undefined', "NameError: name 'undefined' is not defined"),
        ('c.json', '{"a": ', 'config {}, or a file in its _base_'),
        ('c.py', "_base_ = 'absent.py'", 'absent.py'),
        ('c.py', 'a = 1', 'belongs to no known library: default_scope is None, known are mmdet,'),
        (
            'c.yaml',
            'default_scope: mmpose',
            "default_scope is 'mmpose', known are mmdet, mmseg, mmpr",
        ),
        ('c.py', "custom_imports = dict(imports=['absent.module'])", "imports 'absent.module'"),
    ],
)
def test_bad_config(tmp_path, capsys, name, text, expected):
    path = tmp_path / name
    path.write_text(text)
    assert expected.format(path) in fail([path], capsys)


@pytest.mark.parametrize(
    ('pair', 'expected'),
    [
        ('work_dir', '--cfg-options work_dir: write KEY=VALUE'),
        ('model.depths=(1,', 'write KEY=VALUE, with balanced brackets'),
        ('default_scope.x=1', '--cfg-options do not fit'),
    ],
)
def test_bad_options(capsys, pair, expected):
    assert expected in fail([DET, '--cfg-options', pair], capsys)


def test_options_read_as_the_libraries_do():
    pairs = ['a.b=1', 'c=1e-3', 'd=None', "e=('x','y')", 'f=p=q', 'a.b=2']
    expected = {'a.b': 2, 'c': 1e-3, 'd': None, 'e': ('x', 'y'), 'f': 'p=q'}
    assert config_file.parse_options(pairs) == expected
    assert config_file.parse_options([]) == {}


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (['c.py', '--amp'], ['c.py', '--amp']),
        (['c.py', '--auto-scale-lr'], ['c.py', '--cfg-options', 'auto_scale_lr.enable=True']),
        (['c.py', '--resume'], ['c.py', '--resume', '--cfg-options', 'load_from=None']),
        (
            ['c.py', '--cfg-options', 'a=1', '--resume', 'd/x.pth', '--auto-scale-lr'],
            [
                'c.py',
                '--cfg-options',
                'a=1',
                '--resume',
                '--cfg-options',
                'auto_scale_lr.enable=True',
                'load_from=d/x.pth',
            ],
        ),
    ],
)
def test_translate_for_mmseg_training(argv, expected):
    assert launcher.translate('mmseg', 'train', argv, Config()) == expected


def test_translate_leaves_the_rest_alone():
    argv = ['c.py', '--resume', 'x.pth', '--auto-scale-lr', '--new-flag']
    assert launcher.translate('mmdet', 'train', argv, Config()) == argv
    argv = ['c.py', '--resume', '--auto-scale-lr', '--no-validate']
    assert launcher.translate('mmpretrain', 'train', argv, Config()) == argv
    argv = ['c.py', 'x.pth', '--tta', '--show-dir', 'd']
    assert launcher.translate('mmseg', 'test', argv, Config()) == argv
    assert launcher.translate('mmpretrain', 'test', argv, Config()) == argv


def test_translate_keeps_the_resume_of_a_config():
    cfg = Config({'resume': True})
    assert launcher.translate('mmseg', 'train', ['c.py'], cfg) == ['c.py', '--resume']


@pytest.mark.parametrize('path', ['my runs/x.pth', 'a,b.pth'])
def test_translate_refuses_a_path_that_options_would_change(path):
    with pytest.raises(InputError, match='no path with blanks, commas or brackets'):
        launcher.translate('mmseg', 'train', ['c.py', '--resume', path], Config())


def test_cpu_group_keeps_what_the_config_says(monkeypatch):
    backends = []
    monkeypatch.setattr(torch.distributed, 'init_process_group', backends.append)
    options = config_file.parse_options(
        launcher._join_cpu_group(Config({'find_unused_parameters': True}))
    )
    assert backends == ['gloo']
    assert options['sync_bn'] is None
    assert options['model_wrapper_cfg.device_ids'] is None
    assert options['model_wrapper_cfg.find_unused_parameters'] is True
    own = Config({'model_wrapper_cfg': {'type': 'MMDistributedDataParallel'}})
    assert launcher._join_cpu_group(own) == ['sync_bn=None', 'model_wrapper_cfg.device_ids=None']


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_help_needs_no_config(tool):
    done = subprocess.run(
        [sys.executable, ROOT / f'tools/{tool}.py', '--help'], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert '--cfg-options' in done.stdout
    assert f'python tools/{tool}.py configs/' in done.stdout


def test_script_reports_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', 'absent.py'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == 'error: config not found: absent.py (the shipped ones are in configs/)\n'


@pytest.mark.parametrize(
    ('script', 'argv'),
    [
        ('dist_train.sh', ['config.py']),
        ('dist_train.sh', ['config.py', '--amp']),
        ('dist_test.sh', ['config.py', '2']),
        ('dist_test.sh', []),
    ],
)
def test_dist_scripts_ask_for_what_is_missing(script, argv):
    done = subprocess.run([ROOT / 'tools' / script, *argv], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f'usage: tools/{script} CONFIG ')


def test_dist_script_hands_over_quoted_arguments(tmp_path):
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    env = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'NNODES': '2', 'PORT': '1234'}
    done = subprocess.run(
        [ROOT / 'tools/dist_test.sh', 'my config.py', 'x.pth', '3', '--show-dir', 'a b'],
        capture_output=True,
        text=True,
        env=env,
    )
    argv = done.stdout.splitlines()
    assert argv[:2] == ['-m', 'torch.distributed.run']
    assert {'--nnodes=2', '--node_rank=0', '--master_port=1234', '--nproc_per_node=3'} < set(argv)
    assert argv[-6:] == ['my config.py', 'x.pth', '--launcher', 'pytorch', '--show-dir', 'a b']


@pytest.fixture
def tool_raises(monkeypatch, tmp_path):
    """Let the library's tool raise; returns the argv of a run up to it."""

    def prepare(error):
        def raise_it(path, run_name):
            raise error

        monkeypatch.setattr(launcher.runpy, 'run_path', raise_it)
        monkeypatch.setattr(checks, 'check_input', lambda *args: None)
        monkeypatch.setattr(sys, 'argv', ['tool'])
        return [SEG, '--work-dir', str(tmp_path)]

    return prepare


def test_input_error_inside_the_run(tool_raises, capsys):
    assert fail(tool_raises(InputError('arch is huge')), capsys) == 'error: arch is huge\n'
    wrapped = KeyError('class CAPVT cannot be built')
    wrapped.__cause__ = InputError('arch is huge')
    assert fail(tool_raises(wrapped), capsys) == 'error: arch is huge\n'


def test_bug_keeps_its_traceback(tool_raises):
    with pytest.raises(ZeroDivisionError):
        launcher.main('train', tool_raises(ZeroDivisionError()))
    hidden = RuntimeError('while reporting')
    hidden.__context__ = InputError('arch is huge')
    with pytest.raises(RuntimeError, match='while reporting'):
        launcher.main('train', tool_raises(hidden))


@pytest.mark.parametrize('wrapped', [False, True])
def test_interrupt_says_how_to_go_on(tool_raises, capsys, tmp_path, wrapped):
    error = KeyboardInterrupt()
    if wrapped:
        error = SyntaxError('while mmengine writes the config')
        error.__context__ = KeyboardInterrupt()
    argv = tool_raises(error)
    assert launcher.main('train', argv) == 130
    assert f'no checkpoint in {tmp_path} yet' in capsys.readouterr().err
    (tmp_path / 'last_checkpoint').write_text('iter_1.pth')
    assert launcher.main('train', argv) == 130
    assert capsys.readouterr().err == (
        f'interrupted: go on with the same command and --resume (last checkpoint in {tmp_path})\n'
    )


@pytest.mark.parametrize(
    ('absent', 'config', 'expected'),
    [
        (
            'mmca',
            SEG,
            'error: mmca is not installed; run in the folder of mmca: pip install -e .\n',
        ),
        ('mmcv', SEG, 'error: mmcv is not installed; run in the folder of mmca: make env\n'),
        ('mmcv._ext', SEG, 'error: mmcv without its operators (mmcv-lite) is not enough'),
        ('mmseg', SEG, 'error: mmseg is not installed; run in the folder of mmca: make env\n'),
        (
            'mmpretrain',
            CLS,
            'error: mmpretrain is not installed; run in the folder of mmca: '
            'pip install -r requirements-pretrain.txt\n',
        ),
    ],
)
def test_missing_package(monkeypatch, capsys, absent, config, expected):
    found = launcher.find_spec
    for module in (launcher, config_file):
        monkeypatch.setattr(module, 'find_spec', lambda n: None if n == absent else found(n))
    assert fail([config], capsys).startswith(expected)


TINY = f"""
_base_ = {SEG!r}
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(_delete_=True, type='mmca.CAPVT', arch=dict(
        embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))),
    neck=dict(in_channels=[8, 16, 16, 32], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16))
one_process = dict(num_workers=0, persistent_workers=False)
train_dataloader = one_process
val_dataloader = one_process
test_dataloader = one_process
train_cfg = dict(max_iters=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))
"""
SMALL_IMAGES = [
    'train_dataloader.dataset.pipeline.2.scale=(48,32)',
    'train_dataloader.dataset.pipeline.3.crop_size=(32,32)',
    'val_dataloader.dataset.pipeline.1.scale=(48,32)',
    'test_dataloader.dataset.pipeline.1.scale=(48,32)',
]


@pytest.fixture
def tiny_run(tmp_path, monkeypatch):
    """A small segmentor with a few pictures in ADE20K's layout: its config and options."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'ADEChallengeData2016'
    for split in ('training', 'validation'):
        for kind, suffix, shape in (
            ('images', 'jpg', (32, 48, 3)),
            ('annotations', 'png', (32, 48)),
        ):
            (folder / kind / split).mkdir(parents=True)
            for i in range(2):
                values = rng.integers(0, 150, shape, dtype=np.uint8)
                Image.fromarray(values).save(folder / kind / split / f'{i}.{suffix}')
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['tool'])
    config = tmp_path / 'tiny.py'
    config.write_text(TINY)
    return [str(config), '--work-dir', str(tmp_path / 'work'), '--cfg-options', *SMALL_IMAGES]


def test_train_resume_and_test(tiny_run, tmp_path, capfd, forget):
    work, pictures = tmp_path / 'work', tmp_path / 'pictures'
    assert launcher.main('train', [*tiny_run, '--auto-scale-lr']) == 0
    assert Config.fromfile(next(work.glob('*/vis_data/config.py'))).auto_scale_lr.enable

    forget()
    more = ['train_cfg.max_iters=2', '--resume', str(work / 'iter_1.pth')]
    assert launcher.main('train', [*tiny_run, *more]) == 0
    out, err = capfd.readouterr()
    assert 'resumed epoch: 0, iter: 1' in out + err
    assert torch.load(work / 'iter_2.pth', weights_only=False)['meta']['iter'] == 2

    forget()
    config, *options = tiny_run
    argv = [config, str(work / 'iter_2.pth'), '--show-dir', str(pictures), *options]
    assert launcher.main('test', argv) == 0
    out, err = capfd.readouterr()
    assert 'mIoU' in out + err
    assert 'warning:' not in err
    assert len(list(pictures.glob('**/*.png'))) == 2


TINY_CLASSIFIER = f"""
_base_ = {CLS!r}
model = dict(
    data_preprocessor=dict(num_classes=2),
    backbone=dict(_delete_=True, type='mmca.CAPVT', out_indices=(3,), arch=dict(
        embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))),
    neck=dict(in_channels=32),
    head=dict(in_channels=32, num_classes=2))
one_process = dict(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=2)
train_dataloader = one_process
val_dataloader = one_process
test_dataloader = one_process
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True)]
"""


@pytest.fixture
def tiny_classifier(tmp_path, monkeypatch):
    """A small classifier with a few pictures of two classes: its config and options."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('dark', 'light'):
            folder = tmp_path / 'imagenet' / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                values = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                values += np.uint8(120 * (name == 'light'))
                Image.fromarray(values).save(folder / f'{name}{i}.png')
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['tool'])
    config = tmp_path / 'tiny.py'
    config.write_text(TINY_CLASSIFIER)
    return [str(config), '--work-dir', str(tmp_path / 'work')]


@needs_mmpretrain
def test_a_classifier_trains_resumes_and_is_tested(tiny_classifier, tmp_path, capfd, forget):
    work, pictures = tmp_path / 'work', tmp_path / 'pictures'
    assert launcher.main('train', [*tiny_classifier, '--auto-scale-lr']) == 0
    out, err = capfd.readouterr()
    assert f'mmpretrain train: {tiny_classifier[0]}, work dir {work}, 4 train images, 2 cl' in out
    assert Config.fromfile(next(work.glob('*/vis_data/config.py'))).auto_scale_lr.enable
    assert 'Epoch(val) [1][2/2]    accuracy/top1: ' in out + err

    forget()
    more = ['--resume', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=2']
    assert launcher.main('train', [*tiny_classifier, *more]) == 0
    out, err = capfd.readouterr()
    assert 'resumed epoch: 1, iter: 2' in out + err
    assert 'Epoch(val)' not in out + err
    assert torch.load(work / 'epoch_2.pth', weights_only=False)['meta']['iter'] == 4

    config, *options = tiny_classifier
    for more in (['--show-dir', str(pictures)], ['--tta']):
        forget()
        predictions = tmp_path / f'{more[0]}.pkl'
        argv = [config, str(work / 'epoch_2.pth'), '--out', str(predictions), *more, *options]
        assert launcher.main('test', argv) == 0
        out, err = capfd.readouterr()
        assert 'accuracy/top1: ' in out + err
        assert 'warning:' not in err
        found = pickle.loads(predictions.read_bytes())
        assert [item['gt_label'].item() for item in found] == [0, 0, 1, 1]
    assert len(list(pictures.glob('*.png'))) == 4

    forget()
    metrics = tmp_path / 'metrics.json'
    argv = [config, str(work / 'epoch_2.pth'), '--out', str(metrics), '--out-item', 'metrics']
    assert launcher.main('test', [*argv, *options]) == 0
    assert json.loads(metrics.read_text()).keys() == {'accuracy/top1'}


def test_unknown_arch_in_a_real_run(tiny_run, tmp_path, capfd):
    options = [SEG, *tiny_run[1:], 'model.backbone.arch=huge']
    assert launcher.main('train', options) == 2
    out, err = capfd.readouterr()
    assert 'Traceback' not in out + err
    errors = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1
    assert 'huge' in errors[0]
    assert 'small' in errors[0]


@pytest.mark.slow
def test_two_processes_train(tiny_run, tmp_path):
    config, *options = tiny_run
    command = [ROOT / 'tools/dist_train.sh', config, '2', *options]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    env = {**os.environ, 'PATH': path, 'PORT': '29617', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count('2 train images, 150 classes') == 1
    assert (tmp_path / 'work/iter_1.pth').is_file()
