"""The networks of docs/outside_openmmlab.md train, as the page has them."""

import re
from importlib import import_module

import pytest
import torch

from mmca.backbones import PVT
from tests.helpers import ROOT

PAGE = (ROOT / 'docs/outside_openmmlab.md').read_text()
CODE = re.findall(r'^```python\n(.*?)^```', PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(cache):
    """Run the page's code from PVT weights in the cache; returns the variables."""
    torch.manual_seed(0)
    cache.mkdir(parents=True)
    torch.save(PVT('tiny').state_dict(), cache / 'pvt_tiny.pth')

    def execute(code):
        exec(code, names := {})
        return names

    return execute


def test_maps_have_the_shapes_that_the_page_gives(run):
    run(CODE[0])


def test_the_segmentor_learns_with_every_parameter(run):
    names = run(CODE[1])
    model, images = names['model'], names['images']
    assert all(p.grad is not None for p in model.parameters())
    assert model(images).shape == (2, 11, 96, 128)
    losses = []
    for _ in range(5):
        names['optimizer'].zero_grad()
        losses.append(torch.nn.functional.cross_entropy(model(images), names['labels']))
        losses[-1].backward()
        names['optimizer'].step()
    assert losses[-1] < losses[0]


def test_torchvisions_mask_rcnn_trains_and_predicts(run):
    try:
        import_module('torchvision.models.detection')
    except (ImportError, RuntimeError) as error:  # or it is built for another torch
        pytest.skip(f'needs torchvision: {error}')
    names = run(CODE[2])
    model, losses = names['model'], names['losses']
    assert set(losses) >= {'loss_mask', 'loss_box_reg', 'loss_objectness'}
    assert all(p.grad is not None for p in model.backbone.parameters())
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert set(names['found']) == {'boxes', 'labels', 'scores', 'masks'}
