"""Images per second and memory in the logs of training."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub

from mmca.engine import ThroughputHook


@pytest.fixture
def runner(request):
    return SimpleNamespace(message_hub=MessageHub(request.node.name))


@pytest.mark.parametrize('inputs', [torch.zeros(4, 3, 8, 8), [torch.zeros(3, 8, 8)] * 4])
def test_images_per_second(inputs, runner):
    hub = runner.message_hub
    hub.update_scalar('train/time', 0.5)
    ThroughputHook().after_train_iter(runner, 0, {'inputs': inputs})
    assert hub.get_scalar('train/images_per_s').current() == 8
    if not torch.cuda.is_available():
        assert 10 < hub.get_scalar('train/memory').current() < 1e6  # MiB


def test_without_a_timer_or_images_nothing_is_logged(runner):
    ThroughputHook().after_train_iter(runner, 0, {'inputs': [0]})
    assert not runner.message_hub.log_scalars
    runner.message_hub.update_scalar('train/time', 0.5)
    ThroughputHook().after_train_iter(runner, 0, {'images': []})
    assert 'train/images_per_s' not in runner.message_hub.log_scalars
