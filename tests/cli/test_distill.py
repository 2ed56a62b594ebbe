"""`mmca transfer` from the command line to a file that a backbone starts from."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmca.backbones import CADeiT, DeiT
from mmca.checkpoint import load_pretrained, read_checkpoint
from mmca.cli.main import main
from mmca.config.reader import load_config
from mmca.engine.hooks import SeedHook
from tests.helpers import SEG, write_image
from tests.tiny import DEIT

CONFIG = f"""
_base_ = {SEG!r}
model = dict(
    backbone=dict(_delete_=True, type='mmca.CADeiT', arch={DEIT!r}, attn='CCSS'),
    neck=dict(_delete_=True, type='mmca.SimpleFeaturePyramid', in_channels=16, out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16))
"""


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
        argv = ['transfer', tmp_path / 'tiny.py', tmp_path / 'teacher.pth']
        argv += ['--images', tmp_path / 'images', '--out', tmp_path / out, '--batch-size', 2]
        argv += ['--side', 64, '--workers', 1, '--iters', 6, *options]
        return [str(word) for word in argv]

    return command


def test_the_result_is_a_start_and_a_resumed_run_gives_the_same(
    job, tmp_path, capsys, forget, monkeypatch
):
    assert main(job('whole.pth', '--work-dir', tmp_path / 'whole')) == 0
    out = capsys.readouterr().out
    assert 'relative error' in out
    assert 'output0' in out
    whole = read_checkpoint(tmp_path / 'whole.pth').tensors
    model = CADeiT(DEIT, attn='CCSS', pos_embed=True)
    message = load_pretrained(model, tmp_path / 'whole.pth')
    assert '0 converted, 0 resized, 0 dropped, 0 missing, 0 unexpected, 0 mismatched' in message
    provenance = torch.load(tmp_path / 'whole.pth', weights_only=True)['transfer']
    assert provenance['images'] == 24
    assert len(provenance['teacher_sha256']) == 64
    assert provenance['settings']['iters'] == 6
    assert sorted(provenance['errors']) == [0, 1, 2, 3, 4, 5, 6]

    interrupted = ['--work-dir', tmp_path / 'part']
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(SeedHook, 'before_train_iter', interrupt_at(4))
        assert main(job('part.pth', *interrupted)) == 130
    assert not (tmp_path / 'part.pth').exists()
    forget()
    assert main(job('part.pth', *interrupted, '--resume')) == 0
    part = read_checkpoint(tmp_path / 'part.pth').tensors
    assert part.keys() == whole.keys()
    assert all(torch.equal(part[name], whole[name]) for name in whole)


def test_a_whole_model_gets_the_new_backbone(job, tmp_path, capsys):
    options = ['--cfg-options', 'model.backbone.attn=CCSS']
    argv = job('backbone.pth', '--model-out', tmp_path / 'model.pth', '--iters', '2', *options)
    cfg = load_config(argv[1], ['model.backbone.attn=S', 'model.backbone.pos_embed=True'])
    with DefaultScope.overwrite_default_scope('mmseg'):
        teacher = MODELS.build(cfg.model).state_dict()
    torch.save({'state_dict': teacher, 'meta': {}}, argv[2])
    assert main(argv) == 0
    command = ' '.join(['mmca', 'test', argv[1], str(tmp_path / 'model.pth'), *options])
    assert f'is for {command}\n' in capsys.readouterr().out
    whole = read_checkpoint(tmp_path / 'model.pth').tensors
    backbone = {k.removeprefix('backbone.'): v for k, v in whole.items() if 'backbone.' in k}
    expected = read_checkpoint(tmp_path / 'backbone.pth').tensors
    assert backbone.keys() == expected.keys()
    assert all(torch.equal(backbone[name], expected[name]) for name in expected)
    around = [name for name in teacher if not name.startswith('backbone.')]
    assert {*around, *(f'backbone.{name}' for name in expected)} == whole.keys()
    assert all(torch.equal(whole[name], teacher[name]) for name in around)
    image, drawing = tmp_path / 'images/00.png', tmp_path / 'drawn'
    predict = ['predict', argv[1], tmp_path / 'model.pth', image, '--out', drawing]
    assert main([str(word) for word in predict]) == 0


def interrupt_at(iteration):
    """A replacement of SeedHook's method that is interrupted at an iteration."""
    seed = SeedHook.before_train_iter

    def before_train_iter(hook, runner, *args, **kwargs):
        if runner.iter == iteration:
            raise KeyboardInterrupt
        seed(hook, runner, *args, **kwargs)

    return before_train_iter


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('--images gone', '--images gone: no such folder'),
        ('--out gone/x.pth', '--out gone/x.pth: must be a .pth file in a folder that exists'),
        ('--out teacher.pth', '--out teacher.pth: must be another file than TEACHER and --out'),
        ('--model-out teacher.pth', '--model-out teacher.pth: must be another file than TEACHER'),
        ('--model-out x.pth', '--model-out x.pth: must be another file than TEACHER and --out'),
        ('--model-out x.txt', '--model-out x.txt: must be a .pth file in a folder that exists'),
        (
            '--model-out y.pth',
            "tensors of the config's neck and heads, such as neck.lateral",
        ),
        ('--work-dir teacher.pth', 'work dir teacher.pth: cannot write there'),
        ('--iters 1', '--iters 1: must be at least 2'),
        ('--iters 4 --block-iters 5', '--block-iters 5: must be from 0 to --iters, 4'),
        ('--batch-size 0', '--batch-size 0: must be at least 1'),
        ('--workers -1', '--workers -1: must be at least 0'),
        ('--lr nan', '--lr nan: must be a positive number'),
        ('--gain 0', '--gain 0.0: must be a positive number'),
        ('--side 80', '--side 80: must be a multiple of 32, at least 64'),
        ('--cfg-options model.backbone.attn=S', 'has the attention of the teacher'),
        ('--cfg-options model.backbone.arch.embed_dims=24', 'does not fit'),
        ('--cfg-options model.backbone.attn=CCCX', "model.student: unknown attention 'X'"),
        (
            '--cfg-options model.backbone.type=mmseg.ResNet',
            "one of mmca, got type 'mmseg.ResNet'",
        ),
        ('--cfg-options model.backbone=None', 'must be one of mmca, got type None'),
    ],
)
def test_bad_input_is_one_line(job, fail, tmp_path, monkeypatch, forget, change, message):
    monkeypatch.chdir(tmp_path)
    forget()
    assert message in fail(*job('x.pth', *change.split()))
    assert not (tmp_path / 'x.pth').exists()


def test_another_model_s_checkpoint_is_not_resumed(job, fail, tmp_path):
    work = tmp_path / 'work'
    work.mkdir()
    state = {'backbone.a': torch.zeros(3)}
    training = {'state_dict': state, 'optimizer': {}, 'meta': {'iter': 3, 'epoch': 0}}
    torch.save(training, work / 'iter_3.pth')
    (work / 'last_checkpoint').write_text(str(work / 'iter_3.pth'))
    line = fail(*job('x.pth', '--work-dir', str(work), '--resume'))
    assert f'{work / "iter_3.pth"} is of another model' in line


@pytest.mark.parametrize('content', [b'', b'<html>', None], ids=['empty', 'HTML', 'truncated'])
def test_unreadable_images_are_counted(job, fail, tmp_path, content):
    for name in ('03.png', '07.png'):
        file = tmp_path / 'images' / name
        file.write_bytes(file.read_bytes()[:500] if content is None else content)
    line = fail(*job('x.pth'))
    assert '2 of 24 images cannot be read; the first: cannot read' in line
    assert '03.png' in line


@pytest.mark.parametrize('missing', ['gone.pth', ''])
def test_a_teacher_that_is_not_there(job, fail, missing):
    argv = job('x.pth')
    argv[2] = missing
    assert f'TEACHER {missing!r}: no such file' in fail(*argv)
