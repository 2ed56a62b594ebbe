"""What a resumed run finds as it was; see test_preemption.py for runs from end to end."""

from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop

from mmca.engine import ResumeHook
from mmca.engine.hooks.resume import VALIDATED


def resumed(epoch):
    """A runner, four iterations an epoch, whose checkpoint has been loaded."""
    loop = object.__new__(EpochBasedTrainLoop)
    loop.dataloader, loop._epoch, loop._iter = range(4), epoch, 4 * epoch
    loop._max_epochs, loop.val_begin, loop.val_interval = 12, 2, 2
    return SimpleNamespace(
        train_loop=loop,
        message_hub=SimpleNamespace(runtime_info={}),
        val_loop=SimpleNamespace(run=lambda: ran.append(epoch)),
    )


ran = []


@pytest.mark.parametrize(
    ('epoch', 'noted', 'due'),
    [
        (0, None, False),
        (1, None, False),
        (2, None, True),
        (3, None, False),
        (4, 8, True),
        (4, 16, False),
        (12, 40, True),
    ],
)
def test_a_validation_is_due_once(epoch, noted, due):
    ran.clear()
    runner = resumed(epoch)
    runner.message_hub.runtime_info[VALIDATED] = noted
    ResumeHook().before_train(runner)
    assert ran == [epoch] * due
    runner.val_loop = None
    ResumeHook().before_train(runner)
    assert ran == [epoch] * due


def test_a_copied_work_dir_leaves_the_other_one_alone(tmp_path):
    (tmp_path / 'best_mIoU_iter_5.pth').touch()
    info = {'best_ckpt': '/old/best_mIoU_iter_5.pth', 'last_ckpt': '/old/iter_6.pth', 'iter': 6}
    checkpoint = {'message_hub': {'runtime_info': info}}
    runner = SimpleNamespace(work_dir=str(tmp_path))
    ResumeHook().after_load_checkpoint(runner, checkpoint)
    assert info['best_ckpt'] == str(tmp_path / 'best_mIoU_iter_5.pth')
    assert info['last_ckpt'] == '/old/iter_6.pth'
    ResumeHook().after_load_checkpoint(runner, {'state_dict': {}})
