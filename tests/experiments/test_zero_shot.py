"""Counting right images without training."""

import numpy as np
import pytest
import torch

from experiments.zero_shot import count_right, labeled_images
from mmca.backbones import DeiT
from mmca.errors import InputError
from tests.helpers import write_image


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(0)
    state = DeiT('tiny', with_cls_token=True).state_dict()
    state |= {'head.weight': torch.zeros(3, 192), 'head.bias': torch.tensor([0.0, 1.0, 0.0])}
    torch.save(state, tmp_path / 'deit.pth')
    return str(tmp_path / 'deit.pth')


def test_labels_follow_the_names_of_folders(tmp_path, teacher):
    for name in ('train/c', 'val/b', 'train/a', 'val/b'):
        for i in range(2):
            write_image(tmp_path / f'{name}/{i}.png', np.zeros((224, 256, 3)))
    files = labeled_images([str(tmp_path / 'val'), str(tmp_path / 'train')], every=1)
    assert [(path.parent.name, label) for path, label in files] == [
        *[('a', 0)] * 2,
        *[('b', 1)] * 2,
        *[('c', 2)] * 2,
    ]
    assert count_right(teacher, 'S', files) == 2  # the head always answers 1
    assert count_right(teacher, 'SSSSSKKKKKKK', files, gains=(0.0, 1.0)) == 2
    assert count_right(teacher, 'SSSSSXXXXXXX', files, window=3) == 2
    assert labeled_images([str(tmp_path / 'train')], every=2) == [files[0], (files[4][0], 1)]


def test_a_backbone_alone_is_refused(tmp_path):
    torch.save(DeiT('tiny').state_dict(), tmp_path / 'backbone.pth')
    with pytest.raises(InputError, match='has no classifier'):
        count_right(str(tmp_path / 'backbone.pth'), 'S', [])
