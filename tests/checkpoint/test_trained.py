"""Whole trained models: what is required of a checkpoint, and third-party classifiers."""

import pytest
import torch
from torch import nn

from mmca.backbones import CADeiT, DeiT
from mmca.checkpoint import Checkpoint, check_trained, classifier_state_dict, load_trained
from mmca.errors import InputError
from tests.tiny import SHORT_DEIT


class Model(nn.Module):
    """Named like a segmentor, or like a classifier of mmpretrain."""

    def __init__(self, backbone, classifier=False):
        super().__init__()
        self.backbone = backbone
        if classifier:
            self.head = nn.ModuleDict({'fc': nn.Linear(16, 10)})
        else:
            self.decode_head, self.auxiliary_head = nn.Linear(16, 4), nn.Linear(16, 4)


def weights(model, lacking=(), **changes):
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    return {k: v for k, v in state.items() if not k.startswith(tuple(lacking))} | changes


def test_a_trained_model_is_loaded():
    model = Model(CADeiT(SHORT_DEIT))
    state = weights(model, ['auxiliary_head'], extra=torch.zeros(1))
    report = load_trained(model, Checkpoint(state), 'x.pth')
    assert report.missing == ['auxiliary_head.weight', 'auxiliary_head.bias']
    assert report.unexpected == ['extra']
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in report.loaded)


@pytest.mark.parametrize(
    ('lacking', 'changes', 'accepted'),
    [
        ((), {}, 'test resume start'),
        (('auxiliary_head',), {}, 'test start'),
        (('decode_head',), {}, 'start'),
        ((), {'decode_head.weight': torch.zeros(5, 16)}, 'start'),
        (('backbone',), {}, ''),
    ],
    ids=['complete', 'no auxiliary head', 'no head', 'other classes', 'no backbone'],
)
@pytest.mark.parametrize('use', ['test', 'resume', 'start'])
def test_requirements(use, lacking, changes, accepted):
    model = Model(CADeiT(SHORT_DEIT))
    checkpoint = Checkpoint(weights(model, lacking, **changes))
    if use in accepted:
        assert check_trained(checkpoint, model, 'x.pth', use).share > 0.5
        return
    expected = r'^x\.pth does not match this model: \d+ loaded'
    expected += '' if lacking == ('backbone',) else r'.*head\.weight'
    with pytest.raises(InputError, match=expected):
        check_trained(checkpoint, model, 'x.pth', use)


@pytest.mark.parametrize('use', ['test', 'resume', 'start'])
def test_diverged_weights(use):
    model = Model(CADeiT(SHORT_DEIT))
    nan = torch.full((4,), float('nan'))
    checkpoint = Checkpoint(weights(model, **{'decode_head.bias': nan}))
    if use == 'start':  # the finite-loss hook ends such a training
        assert check_trained(checkpoint, model, 'x.pth', use).share == 1
        return
    with pytest.raises(InputError, match=r'^x\.pth: 1 of \d+ .* NaN, such as decode_head\.bias; '):
        check_trained(checkpoint, model, 'x.pth', use)


@pytest.mark.parametrize('use', ['test', 'resume', 'start'])
@pytest.mark.parametrize('there', [True, False])
def test_position_embeddings_must_agree(there, use):
    state = weights(Model(CADeiT(SHORT_DEIT, pos_embed=there)))
    model = Model(CADeiT(SHORT_DEIT, pos_embed=not there))
    with pytest.raises(InputError, match=rf'set model\.backbone\.pos_embed={there}$'):
        check_trained(Checkpoint(state), model, 'x.pth', use)


def test_third_party_classifiers():
    model = Model(DeiT(SHORT_DEIT, with_cls_token=True, out_type='cls_token'), classifier=True)
    state = weights(model.backbone)
    state |= {'head.weight': torch.randn(10, 16), 'head.bias': torch.randn(10)}
    found = classifier_state_dict(Checkpoint(state), model)
    assert found.keys() == model.state_dict().keys()
    assert torch.equal(found['head.fc.weight'], state['head.weight'])
    assert torch.equal(found['backbone.cls_token'], state['cls_token'])
    other = Checkpoint(state | {'head.weight': torch.zeros(7, 16)})
    assert classifier_state_dict(other, model) is None
    assert classifier_state_dict(Checkpoint(model.state_dict()), model) is None
    circulant = Model(CADeiT(SHORT_DEIT, pos_embed=True), classifier=True)
    assert classifier_state_dict(Checkpoint(state), circulant) is None
