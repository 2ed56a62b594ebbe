"""`mmca distill` from the command line to a file that a backbone starts from."""

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS, DefaultScope

from mmca.backbones import CADeiT, DeiT
from mmca.checkpoint import load_pretrained, read_checkpoint
from mmca.cli.main import main
from mmca.config.reader import load_config
from mmca.distill.config import distill_config
from mmca.engine import Runner
from mmca.errors import InputError
from tests.helpers import SEG, write_image
from tests.tiny import DEIT

CONFIG = f"""
_base_ = {SEG!r}
model = dict(
    backbone=dict(_delete_=True, type='mmca.CADeiT', arch={DEIT!r}, attn='CCSS'),
    neck=dict(_delete_=True, type='mmca.SimpleFeaturePyramid', in_channels=16, out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16))
"""

HEADS = [
    'model.backbone.pos_embed=True',
    'model.backbone.attn_cfg.circulant.head_dim=softmax',
    'model.backbone.attn_cfg.circulant.scale=paper',
]


@pytest.fixture
def job(tmp_path):
    """A command line with everything in a temporary folder; options may be added."""
    rng = np.random.default_rng(0)
    for i in range(24):
        write_image(tmp_path / f'images/{i:02}.png', rng.integers(0, 255, (70, 90, 3)))
    (tmp_path / 'tiny.py').write_text(CONFIG)
    torch.manual_seed(0)
    torch.save({'model': DeiT(DEIT, with_cls_token=True).state_dict()}, tmp_path / 'teacher.pth')

    def command(out, *options):
        argv = ['distill', tmp_path / 'tiny.py', tmp_path / 'teacher.pth']
        argv += ['--images', tmp_path / 'images', '--out', tmp_path / out, '--batch-size', 2]
        argv += ['--side', 64, '--workers', 0, '--iters', 6, *options]
        return [str(word) for word in argv]

    return command


@HOOKS.register_module(force=True)
class InterruptHook(Hook):
    """An interrupt in the fifth iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_the_result_and_the_same_after_resuming(job, tmp_path, capsys, forget):
    loading = '--workers', 1  # in the process itself, resumed runs draw other random numbers
    assert main(job('whole.pth', *loading, '--work-dir', tmp_path / 'whole')) == 0
    out = capsys.readouterr().out
    assert 'relative error' in out
    assert f': --cfg-options {" ".join(HEADS)} model.backbone.init_cfg.type' in out
    whole = read_checkpoint(tmp_path / 'whole.pth').tensors
    options = {'attn': 'CCSS', 'pos_embed': True}
    with pytest.raises(InputError, match=r"head_dim='softmax', not 1: set model.backbone.attn_cfg"):
        load_pretrained(CADeiT(DEIT, **options), tmp_path / 'whole.pth')
    options['attn_cfg'] = {'circulant': {'head_dim': 8, 'scale': 'paper'}}
    message = load_pretrained(CADeiT(DEIT, **options), tmp_path / 'whole.pth')
    assert message.splitlines()[0].endswith(' loaded')
    provenance = torch.load(tmp_path / 'whole.pth', weights_only=True)['distill']
    assert provenance['images'] == 24
    assert len(provenance['teacher_sha256']) == 64
    assert provenance['settings']['iters'] == 6
    assert list(provenance['errors']) == [0, 1, 2, 3, 4, 5, 6]

    forget()
    argv, work = job('part.pth', *loading, '--work-dir', tmp_path / 'part'), str(tmp_path / 'part')
    options = dict(iters=6, batch_size=2, side=64, workers=1)
    cfg = distill_config(load_config(argv[1]), argv[2], [argv[4]], work, **options)
    cfg.custom_hooks.append(dict(type='InterruptHook'))
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        Runner.from_cfg(cfg).train()
    assert [file.name for file in (tmp_path / 'part').glob('*.pth')] == ['iter_4.pth']
    forget()
    assert main([*argv, '--resume']) == 0
    part = read_checkpoint(tmp_path / 'part.pth').tensors
    assert part.keys() == whole.keys()
    assert all(torch.equal(part[name], whole[name]) for name in whole)


def test_without_iterations_it_only_calibrates(job, tmp_path, capsys):
    argv = job('calibrated.pth', '--iters', 0, '--work-dir', tmp_path)
    assert main([*argv, '--calibrate', '8']) == 0
    assert '->' in capsys.readouterr().out
    content = torch.load(tmp_path / 'calibrated.pth', weights_only=True)
    assert content['distill']['settings']['calibrate'] == 8
    errors = content['distill']['errors']
    assert list(errors) == [0, 'calibrated']
    assert errors['calibrated']['mean/error'] < errors[0]['mean/error']
    teacher = read_checkpoint(argv[2]).tensors
    for name, kept in (('blocks.0.mlp.fc1.weight', True), ('blocks.3.mlp.fc2.bias', False)):
        assert torch.equal(content['model'][name], teacher[name]) == kept


def test_a_whole_model_gets_the_new_backbone(job, tmp_path, capsys):
    argv = job('backbone.pth', '--model-out', tmp_path / 'model.pth', '--iters', '2')
    cfg = load_config(argv[1], ['model.backbone.attn=S', 'model.backbone.pos_embed=True'])
    with DefaultScope.overwrite_default_scope('mmseg'):
        teacher = MODELS.build(cfg.model).state_dict()
    torch.save({'state_dict': teacher, 'meta': {}}, argv[2])
    assert main([*argv, '--work-dir', str(tmp_path)]) == 0
    options = ['--cfg-options', *HEADS]
    command = ' '.join(['mmca', 'test', argv[1], str(tmp_path / 'model.pth'), *options])
    assert f': {command}\n' in capsys.readouterr().out
    whole = read_checkpoint(tmp_path / 'model.pth').tensors
    expected = read_checkpoint(tmp_path / 'backbone.pth').tensors
    around = [name for name in teacher if not name.startswith('backbone.')]
    assert {*around, *(f'backbone.{name}' for name in expected)} == whole.keys()
    assert all(torch.equal(whole[f'backbone.{name}'], expected[name]) for name in expected)
    assert all(torch.equal(whole[name], teacher[name]) for name in around)
    predict = ['predict', argv[1], tmp_path / 'model.pth', tmp_path / 'images/00.png', '--out']
    assert main([str(word) for word in [*predict, tmp_path / 'drawn', *options]]) == 0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('--images gone', 'no such folder: gone'),
        ('--out gone/x.pth', '--out gone/x.pth: must be a .pth file in a folder that exists'),
        ('--out teacher.pth', '--out teacher.pth: teacher and results need different files'),
        ('--model-out x.pth', '--model-out x.pth: teacher and results need different files'),
        ('--model-out y.pth', "tensors of the config's neck and heads, such as neck.lateral"),
        ('--work-dir teacher.pth', 'teacher.pth'),
        ('--lr nan', 'Invalid learning rate: nan'),
        ('--side 80', '--side 80: must be a multiple of 32, at least 64'),
        ('--cfg-options model.backbone.attn=S', 'have the same attention'),
        ('--cfg-options model.backbone.arch.embed_dims=24', 'does not fit'),
        ('--cfg-options model.backbone.type=mmseg.ResNet', "got type 'mmseg.ResNet'"),
        ('--train all --cfg-options model.backbone.attn=S', '--train all --block-iters 0'),
    ],
)
def test_bad_input_is_one_line(job, refused, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*job('x.pth', *change.split()))
    assert not (tmp_path / 'x.pth').exists()


def test_unreadable_files_are_one_line(job, refused, tmp_path):
    argv = job('x.pth')
    for name in ('03.png', '07.png'):
        file = tmp_path / 'images' / name
        file.write_bytes(file.read_bytes()[:500])
    assert '2 of 24 images cannot be read, the first: cannot read' in (line := refused(*argv))
    assert '03.png' in line
    argv[2] = 'gone.pth'
    assert 'checkpoint not found: gone.pth' in refused(*argv)
