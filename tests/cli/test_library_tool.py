"""Running a library's tool: flags, errors, interrupts, and real runs from end to end."""

import json
import pickle
import sys
from datetime import timedelta

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmca import preflight
from mmca.backbones import CAPVT, PVT
from mmca.cli import library_tool
from mmca.cli.library_tool import translate
from mmca.cli.main import run_command
from mmca.cli.process_group import join_cpu_group
from mmca.config.names import OWN_HOOKS
from mmca.config.reader import parse_options
from mmca.errors import InputError
from tests.helpers import CONFIGS, SEG, error_line, iteration_of, needs_mmpretrain, write_image

CLS = str(CONFIGS / 'imagenet/ca_pvt_t.py')


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
    assert translate('mmseg', 'train', argv, Config()) == expected


def test_translate_leaves_the_rest_alone():
    argv = ['c.py', '--resume', 'x.pth', '--auto-scale-lr', '--new-flag']
    assert translate('mmdet', 'train', argv, Config()) == argv
    argv = ['c.py', '--resume', '--auto-scale-lr', '--no-validate']
    assert translate('mmpretrain', 'train', argv, Config()) == argv
    argv = ['c.py', 'x.pth', '--tta', '--show-dir', 'd']
    assert translate('mmseg', 'test', argv, Config()) == argv
    assert translate('mmpretrain', 'test', argv, Config()) == argv


def test_translate_keeps_the_resume_of_a_config():
    cfg = Config({'resume': True})
    assert translate('mmseg', 'train', ['c.py'], cfg) == ['c.py', '--resume']


@pytest.mark.parametrize('path', ['my runs/x.pth', 'a,b.pth'])
def test_translate_refuses_a_path_that_options_would_change(path):
    with pytest.raises(InputError, match='no path with blanks, commas or brackets'):
        translate('mmseg', 'train', ['c.py', '--resume', path], Config())


def test_cpu_group_keeps_what_the_config_says(monkeypatch):
    groups = []
    monkeypatch.setattr(
        torch.distributed,
        'init_process_group',
        lambda name, timeout: groups.append((name, timeout)),
    )
    options = parse_options(join_cpu_group(Config({'find_unused_parameters': True})))
    assert groups == [('gloo', None)]
    assert options['sync_bn'] is None
    assert options['model_wrapper_cfg.device_ids'] is None
    assert options['model_wrapper_cfg.find_unused_parameters'] is True
    own = Config(
        {
            'model_wrapper_cfg': {'type': 'MMDistributedDataParallel'},
            'env_cfg': {'dist_cfg': {'timeout': 90}},
        }
    )
    assert join_cpu_group(own) == ['sync_bn=None', 'model_wrapper_cfg.device_ids=None']
    assert groups[-1] == ('gloo', timedelta(seconds=90))


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (
            RuntimeError('[/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer'),
            'another process of this run ended; the reason is in its own output [',
        ),
        (
            RuntimeError('[/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 10000ms'),
            'another process did not answer in time (env_cfg.dist_cfg.timeout, in seconds) [',
        ),
    ],
)
def test_a_lost_process_is_one_line(tool_raises, capsys, error, text):
    assert run_command('train', tool_raises(error)) == 1
    err = error_line(capsys.readouterr().err)
    assert text in err
    assert 'no checkpoint in' in err


def test_configs_without_the_hooks_of_every_run_get_them():
    assert library_tool.missing_hooks(Config({})) == [
        'default_hooks.finite_loss.type=mmca.FiniteLossHook',
        'default_hooks.preemption.type=mmca.PreemptionHook',
        'default_hooks.resume.type=mmca.ResumeHook',
        'default_hooks.throughput.type=mmca.ThroughputHook',
    ]
    assert library_tool.missing_hooks(Config.fromfile(SEG)) == []
    custom = [{'type': hook} for hook in OWN_HOOKS.values()]
    assert library_tool.missing_hooks(Config({'custom_hooks': custom})) == []


@pytest.fixture
def tool_raises(monkeypatch, tmp_path):
    """Let the library's tool raise; returns the argv of a run up to it."""

    def prepare(error):
        def raise_it(path, run_name):
            raise error

        monkeypatch.setattr(library_tool.runpy, 'run_path', raise_it)
        monkeypatch.setattr(preflight, 'check', lambda *args: preflight.Findings(''))
        monkeypatch.setattr(sys, 'argv', ['tool'])
        return [SEG, '--work-dir', str(tmp_path)]

    return prepare


def test_input_error_inside_the_run(tool_raises, fail):
    assert fail('train', *tool_raises(InputError('arch is huge'))) == 'error: arch is huge\n'
    wrapped = KeyError('class CAPVT cannot be built')
    wrapped.__cause__ = InputError('arch is huge')
    assert fail('train', *tool_raises(wrapped)) == 'error: arch is huge\n'


def test_bug_keeps_its_traceback(tool_raises):
    with pytest.raises(ZeroDivisionError):
        run_command('train', tool_raises(ZeroDivisionError()))
    hidden = RuntimeError('while reporting')
    hidden.__context__ = InputError('arch is huge')
    with pytest.raises(RuntimeError, match='while reporting'):
        run_command('train', tool_raises(hidden))


@pytest.mark.parametrize('wrapped', [False, True])
def test_interrupt_says_how_to_go_on(tool_raises, capsys, tmp_path, wrapped):
    error = KeyboardInterrupt()
    if wrapped:
        error = SyntaxError('while mmengine writes the config')
        error.__context__ = KeyboardInterrupt()
    argv = tool_raises(error)
    assert run_command('train', argv) == 130
    assert f'no checkpoint in {tmp_path} yet' in capsys.readouterr().err
    (tmp_path / 'last_checkpoint').write_text('iter_1.pth')
    assert run_command('train', argv) == 130
    assert capsys.readouterr().err == (
        f'interrupted: go on with the same command and --resume (last checkpoint in {tmp_path})\n'
    )


def test_train_resume_and_test(tiny_run, tmp_path, capfd, forget):
    work, images = tmp_path / 'work', tmp_path / 'images'
    assert run_command('train', [*tiny_run, '--auto-scale-lr']) == 0
    assert Config.fromfile(next(work.glob('*/vis_data/config.py'))).auto_scale_lr.enable

    forget()
    more = ['train_cfg.max_iters=2', '--resume', str(work / 'iter_1.pth')]
    assert run_command('train', [*tiny_run, *more]) == 0
    out, err = capfd.readouterr()
    assert 'resumed epoch: 0, iter: 1' in out + err
    assert iteration_of(work / 'iter_2.pth') == 2

    forget()
    config, *options = tiny_run
    argv = [config, str(work / 'iter_2.pth'), '--show-dir', str(images), *options]
    assert run_command('test', argv) == 0
    out, err = capfd.readouterr()
    assert 'mIoU' in out + err
    assert 'warning:' not in err
    assert len(list(images.glob('**/*.png'))) == 2


TINY_CAPVT = dict(embed_dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
TINY_CLASSIFIER = f"""
_base_ = {CLS!r}
model = dict(
    data_preprocessor=dict(num_classes=2),
    backbone=dict(_delete_=True, type='mmca.CAPVT', out_indices=(3,), arch={TINY_CAPVT}),
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
    """A small classifier with a few images of two classes: its config and options."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('dark', 'light'):
            folder = tmp_path / 'imagenet' / split / name
            for i in range(2):
                values = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                values += np.uint8(120 * (name == 'light'))
                write_image(folder / f'{name}{i}.png', values)
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['tool'])
    config = tmp_path / 'tiny.py'
    config.write_text(TINY_CLASSIFIER)
    return [str(config), '--work-dir', str(tmp_path / 'work')]


@needs_mmpretrain
def test_a_classifier_trains_resumes_and_is_tested(tiny_classifier, tmp_path, capfd, forget):
    work, images = tmp_path / 'work', tmp_path / 'images'
    assert run_command('train', [*tiny_classifier, '--auto-scale-lr']) == 0
    out, err = capfd.readouterr()
    assert f'mmpretrain train: {tiny_classifier[0]}, work dir {work}, 4 train images, 2 cl' in out
    assert Config.fromfile(next(work.glob('*/vis_data/config.py'))).auto_scale_lr.enable
    assert 'Epoch(val) [1][2/2]    accuracy/top1: ' in out + err

    forget()
    more = ['--resume', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=2']
    assert run_command('train', [*tiny_classifier, *more]) == 0
    out, err = capfd.readouterr()
    assert 'resumed epoch: 1, iter: 2' in out + err
    assert 'Epoch(val)' not in out + err
    assert iteration_of(work / 'epoch_2.pth') == 4

    config, *options = tiny_classifier
    for more in (['--show-dir', str(images)], ['--tta']):
        forget()
        predictions = tmp_path / f'{more[0]}.pkl'
        argv = [config, str(work / 'epoch_2.pth'), '--out', str(predictions), *more, *options]
        assert run_command('test', argv) == 0
        out, err = capfd.readouterr()
        assert 'accuracy/top1: ' in out + err
        assert 'warning:' not in err
        found = pickle.loads(predictions.read_bytes())
        assert [item['gt_label'].item() for item in found] == [0, 0, 1, 1]
    assert len(list(images.glob('*.png'))) == 4

    forget()
    metrics = tmp_path / 'metrics.json'
    argv = [config, str(work / 'epoch_2.pth'), '--out', str(metrics), '--out-item', 'metrics']
    assert run_command('test', [*argv, *options]) == 0
    assert json.loads(metrics.read_text()).keys() == {'accuracy/top1'}


@needs_mmpretrain
def test_a_third_party_classifier_is_tested(tiny_classifier, tmp_path, capfd, forget):
    """A file in the original names, and its head; files that do not fit are refused."""
    model = CAPVT(TINY_CAPVT, out_indices=(3,))
    # The norm leaves its bias alone, of which the head reads the first channel.
    norm = {'norm.weight': torch.zeros(32), 'norm.bias': torch.eye(32)[0]}
    weights = model.state_dict() | norm
    head = {'head.weight': torch.eye(2, 32), 'head.bias': torch.zeros(2)}
    torch.save({'model': weights | head}, tmp_path / 'third.pth')
    config, *options = tiny_classifier
    argv = [config, str(tmp_path / 'third.pth'), '--out', str(tmp_path / 'out.pkl'), *options]
    assert run_command('test', argv) == 0
    out, err = capfd.readouterr()
    assert 'accuracy/top1: 50.0000' in out + err  # the head says 'dark' for every image
    found = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    expected = torch.tensor([1.0, 0.0]).softmax(0)
    assert all(torch.allclose(item['pred_score'], expected) for item in found)

    softmax = PVT(TINY_CAPVT).state_dict()  # would be a start for circulant attention, no test
    for wrong in (softmax | head, weights, weights | head | {'head.bias': torch.zeros(3)}):
        torch.save(wrong, tmp_path / 'third.pth')
        assert run_command('test', argv) == 2
        assert 'is of another model' in error_line(capfd.readouterr().err)


def test_unknown_arch_in_a_real_run(tiny_run, tmp_path, capfd):
    options = [SEG, *tiny_run[1:], 'model.backbone.arch=huge']
    assert run_command('train', options) == 2
    out, err = capfd.readouterr()
    assert 'Traceback' not in out
    assert 'huge' in error_line(err)
    assert 'small' in error_line(err)
