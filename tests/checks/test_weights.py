"""Checkpoints against the model that takes their weights."""

import pytest
from torch import nn

from mmca.checks import check_weights
from mmca.errors import InputError


@pytest.fixture
def model():
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))


def content(model, **more):
    return {'state_dict': model.state_dict(), 'meta': {'epoch': 1}, 'message_hub': {}, **more}


def test_its_own_weights_pass_in_silence(model, capsys):
    for use, more in (('test', {}), ('start', {}), ('resume', {'optimizer': {}})):
        check_weights(content(model, **more), model, 'own.pth', use)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('use', ['test', 'start', 'resume'])
def test_another_model_is_refused(model, use):
    other = nn.ModuleDict(dict(net=nn.Conv2d(3, 4, 5)))
    with pytest.raises(InputError, match=r'other.pth'):
        check_weights(content(other, optimizer={}), model, 'other.pth', use)
    with pytest.raises(InputError, match=r'none.pth contains no weights'):
        check_weights({'state_dict': {'a': 1}}, model, 'none.pth', use)


@pytest.mark.parametrize('state', ['optimizer', 'message_hub'])
def test_weights_alone_are_no_training_to_resume(model, state):
    whole = content(model, optimizer={})
    del whole[state]
    with pytest.raises(InputError, match=r'half.pth contains only weights, no training state'):
        check_weights(whole, model, 'half.pth', 'resume')
    check_weights(whole, model, 'half.pth', 'start')


def test_a_start_from_a_part_is_a_warning(model, capsys):
    part = content(model)
    del part['state_dict']['3.bias']
    check_weights(part, model, 'part.pth', 'start')
    assert capsys.readouterr().err.endswith('not loaded: 3.bias\n')
