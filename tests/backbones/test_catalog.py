"""The backbone that a checkpoint fits."""

import pytest
import torch

from mmca import backbones
from mmca.backbones.catalog import best_fit
from mmca.errors import InputError


# A part of a larger size would be filled just as well, so sizes must be told apart.
@pytest.mark.parametrize(
    ('name', 'arch', 'options'),
    [
        ('PVT', 'small', {}),
        ('CASwin', 'base', {}),
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
