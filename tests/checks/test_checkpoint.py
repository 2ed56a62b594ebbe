"""Checkpoints that are missing, broken or of another model are reported."""

import os
import shutil
from argparse import Namespace

import pytest
import torch
from mmca.checks.checkpoint import check_checkpoint, checkpoint_of, name_last
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmca.errors import InputError
from tests.helpers import CLS, SEG, THREE, needs_mmpretrain


@pytest.fixture(scope='module')
def weights():
    """The weights of the segmentor's config."""
    from mmengine.registry import MODELS, DefaultScope

    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(Config.fromfile(SEG).model).state_dict()


def test_missing_and_corrupt_checkpoint(fail, tmp_path):
    path = tmp_path / 'epoch.pth'
    assert f'checkpoint not found: {path}' in fail('test', SEG, path)
    path.write_bytes(b'not a checkpoint')
    assert str(path) in fail('test', SEG, path)
    assert str(path) in fail('train', SEG, '--resume', path)


def test_checkpoint_of_another_model(fail, tmp_path, weights):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': {f'net.{k}': v for k, v in weights.items()}}, path)
    text = fail('train', SEG, '--cfg-options', f'load_from={path}')
    number = len(weights)
    assert f'{path} is of another model: 0 loaded' in text
    assert f'{number} missing, {number} unexpected' in text


def test_weights_alone_are_no_training_to_resume(run, fail, tmp_path, weights):
    path = tmp_path / 'weights.pth'
    content = {'state_dict': weights, 'meta': {'epoch': 1, 'iter': 2}}
    for change in ({'meta': None}, {}, {'optimizer': {}, 'meta': {'epoch': 1}}):
        torch.save(content | change, path)
        text = fail('train', SEG, '--resume', path)
        assert f'{path} holds weights, not the state of a training' in text
        assert f'load_from={path}' in text
    torch.save(content | {'optimizer': {}}, path)
    assert run('train', SEG, '--resume', path).code == 0


def test_gaps_are_a_warning_to_begin_with_and_refused_otherwise(run, fail, tmp_path, weights):
    path = tmp_path / 'gaps.pth'
    torch.save({k: v for k, v in weights.items() if 'conv_seg' not in k}, path)
    result = run('train', SEG, '--cfg-options', f'load_from={path}')
    assert result.code == 0
    assert f'{len(weights) - 2} loaded' in result.err
    gaps = 'decode_head.conv_seg.weight, decode_head.conv_seg.bias'
    assert f'not loaded: {gaps}' in result.err
    text = fail('test', SEG, path)
    assert f'{path} is of another model: {len(weights) - 2} loaded' in text
    assert f'it lacks {gaps}, which would stay random' in text


def test_other_numbers_of_classes_are_refused_at_test(fail, tmp_path, weights):
    path = tmp_path / 'classes.pth'
    name = 'decode_head.conv_seg.weight'
    torch.save(weights | {name: weights[name][:2]}, path)
    assert f'it lacks {name}: file (2, ' in fail('test', SEG, path)


def test_auxiliary_heads_are_not_needed_at_test(tmp_path, capsys):
    parts = {name: torch.nn.Linear(1, 1) for name in ('backbone', 'head', 'auxiliary_head')}
    model, path = torch.nn.ModuleDict(parts), tmp_path / 'head.pth'
    state = {k: v for k, v in model.state_dict().items() if not k.startswith('auxiliary')}
    torch.save(state, path)
    assert check_checkpoint(str(path), model, 'test').startswith('4 loaded')
    assert 'not loaded: auxiliary_head.weight' in capsys.readouterr().err
    torch.save({'state_dict': state, 'optimizer': {}, 'meta': {'epoch': 1, 'iter': 1}}, path)
    with pytest.raises(InputError, match='it lacks auxiliary_head'):
        check_checkpoint(str(path), model, 'resume')


def test_whole_checkpoint_and_address_are_silent(run, tmp_path, weights):
    path = tmp_path / 'whole.pth'
    torch.save({'state_dict': weights, 'meta': {}}, path)
    assert run('test', SEG, path).err == ''
    assert run('test', SEG, 'https://host/absent.pth').err == ''


def test_resume_reads_the_last_checkpoint_of_the_work_dir(run, fail, tmp_path):
    result = run('train', SEG, '--work-dir', tmp_path, '--resume')
    assert f'warning: --resume: no checkpoint in {tmp_path}, training starts from' in result.err
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_5.pth'))
    text = fail('train', SEG, '--work-dir', tmp_path, '--resume')
    assert f'no checkpoint in {tmp_path} can be resumed (last_checkpoint names {tmp_path}' in text


def last_of(work_dir):
    """The checkpoint from which `--resume` goes on, and what mmengine reads after that."""
    path = checkpoint_of('train', Namespace(resume='auto'), Config({}), str(work_dir))
    name_last(str(work_dir), path)
    return path, find_latest_checkpoint(str(work_dir))


def test_resume_finds_the_newest_checkpoint_that_loads(tmp_path, capsys):
    for age, name in enumerate(['best_mIoU_iter_9', 'iter_9', 'iter_8', 'iter_7']):
        content = {'state_dict': {'a': torch.zeros(1)}, 'optimizer': {}}
        if name.startswith('best'):
            del content['optimizer']
        path = tmp_path / f'{name}.pth'
        torch.save(content, path)
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / 'iter_9.pth').write_bytes((tmp_path / 'iter_9.pth').read_bytes()[:-100])
    last = str(tmp_path / 'iter_8.pth')
    assert last_of(tmp_path) == (last, last)
    assert f'{tmp_path}/iter_9.pth: it is damaged' in capsys.readouterr().err
    assert last_of(tmp_path) == (last, last)
    assert capsys.readouterr().err == ''
    for named in ('iter_9.pth', 'iter_3.pth', b'\xff\x00'):
        (tmp_path / 'last_checkpoint').write_bytes(
            named if isinstance(named, bytes) else named.encode()
        )
        assert last_of(tmp_path) == (last, last)
        assert f'going on from {last}' in capsys.readouterr().err


def test_resume_in_a_copied_work_dir_takes_its_own_checkpoint(tmp_path, capsys):
    old, new = tmp_path / 'old', tmp_path / 'new'
    old.mkdir()
    torch.save({'state_dict': {'a': torch.zeros(1)}}, old / 'epoch_1.pth')
    (old / 'last_checkpoint').write_text(str(old / 'epoch_1.pth'))
    shutil.copytree(old, new)
    assert last_of(new) == (str(new / 'epoch_1.pth'),) * 2
    assert f'names {old}/epoch_1.pth; going on from {new}/epoch_1.pth' in capsys.readouterr().err
    (new / 'last_checkpoint').write_text(str(old / 'epoch_1.pth'))
    (new / 'epoch_1.pth').unlink()
    assert last_of(new) == (str(old / 'epoch_1.pth'),) * 2


@needs_mmpretrain
def test_checkpoint_of_a_detector_for_a_classifier(fail, folders, tmp_path, weights):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': weights}, path)
    text = fail('test', CLS, path, *THREE)
    assert f'{path} is of another model: 0 loaded' in text
    assert f'checkpoint not found: {tmp_path}/no.pth' in fail(
        'test', CLS, tmp_path / 'no.pth', *THREE
    )
