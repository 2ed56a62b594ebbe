"""Checkpoints that are missing, broken or of another model are reported."""

import pytest
import torch

from tests.helpers import CLS, SEG, THREE, needs_mmpretrain


@pytest.fixture(scope='module')
def weights():
    """The weights of the segmentor's config."""
    from mmengine.config import Config
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


def test_checkpoint_with_gaps_is_a_warning(run, tmp_path, weights):
    path = tmp_path / 'gaps.pth'
    torch.save({k: v for k, v in weights.items() if 'conv_seg' not in k}, path)
    result = run('test', SEG, path)
    assert result.code == 0
    assert f'{len(weights) - 2} loaded' in result.err
    assert 'not loaded: decode_head.conv_seg.weight, decode_head.conv_seg.bias' in result.err


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
    assert f'checkpoint not found: {tmp_path}/iter_5.pth' in text


@needs_mmpretrain
def test_checkpoint_of_a_detector_for_a_classifier(fail, folders, tmp_path, weights):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': weights}, path)
    text = fail('test', CLS, path, *THREE)
    assert f'{path} is of another model: 0 loaded' in text
    assert f'checkpoint not found: {tmp_path}/no.pth' in fail(
        'test', CLS, tmp_path / 'no.pth', *THREE
    )
