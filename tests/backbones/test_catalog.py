"""The backbone that a checkpoint fits, and the settings that it needs."""

import pytest
import torch

from mmca import backbones
from mmca.backbones.catalog import best_fit, start_settings
from mmca.checkpoint import Checkpoint
from mmca.errors import InputError
from tests.tiny import DEIT, PVT


# A part of a larger size would be filled just as well, so sizes must be told apart.
@pytest.mark.parametrize(
    ('name', 'arch', 'options'),
    [
        ('PVT', 'small', {}),
        ('CASwin', 'base', {}),
        ('Swin', 'tiny', {}),
        ('CSwin', 'tiny', {}),
        ('CACSwin', 'small', {}),
        ('FLattenCSwin', 'base', {}),
        ('CADeiT', 'tiny', {}),
        ('CADeiT', 'small', {'pos_embed': True}),
        ('DeiT', 'base', {}),
    ],
)
def test_class_size_and_options_are_found(name, arch, options, tmp_path):
    with torch.device('meta'):
        state = getattr(backbones, name)(arch, **options).state_dict()
    path = tmp_path / 'weights.pth'  # small on disk: each tensor is one zero, repeated
    torch.save({f'backbone.{k}': torch.zeros(1).expand(t.shape) for k, t in state.items()}, path)
    assert best_fit(path) == (name, arch, options)


def test_nothing_fits(tmp_path):
    torch.save({'layer1.0.conv1.weight': torch.zeros(1)}, tmp_path / 'resnet.pth')
    with pytest.raises(InputError, match=r'resnet\.pth fits no backbone of mmca'):
        best_fit(tmp_path / 'resnet.pth')


PROJECTION = {'head_dim': 'softmax', 'scale': 'paper'}


@pytest.mark.parametrize(
    ('weights', 'settings', 'attn_cfg'),
    [
        (backbones.DeiT(DEIT), dict(type='mmca.CADeiT'), {'circulant': PROJECTION}),
        (backbones.PVT(PVT), dict(type='mmca.CAPVT'), {'circulant': PROJECTION}),
        (backbones.CADeiT(DEIT), dict(type='mmca.CADeiT'), None),
        (backbones.DeiT(DEIT), dict(type='mmca.DeiT'), None),
        (backbones.DeiT(DEIT), dict(type='mmca.DeiT', attn='KKSL'), None),
        (
            backbones.DeiT(DEIT),
            dict(type='mmca.CADeiT', attn_cfg=dict(circulant=dict(head_dim=1))),
            {'circulant': {'head_dim': 1, 'scale': 'paper'}},
        ),
    ],
)
def test_circulant_attention_starts_as_the_projection(weights, settings, attn_cfg):
    arch = PVT if isinstance(weights, backbones.PVT) else DEIT
    found = start_settings({**settings, 'arch': arch}, Checkpoint(weights.state_dict()))
    assert found.get('attn_cfg') == attn_cfg


def test_a_file_names_its_options():
    state = backbones.CADeiT(DEIT).state_dict()
    checkpoint = Checkpoint(state, meta={'attn_cfg': {'circulant': PROJECTION}})
    found = start_settings(dict(type='mmca.CADeiT', arch=DEIT), checkpoint)
    assert found['attn_cfg'] == {'circulant': PROJECTION}
