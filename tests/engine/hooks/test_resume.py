"""What a resumed run finds as it was; see test_preemption.py for runs from end to end."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader

from mmca.engine import ResumeHook
from mmca.engine.hooks.resume import VALIDATED, batches_done


def resumed(epoch, iteration, loader, persistent=False):
    """A runner whose checkpoint has been loaded."""
    loop = object.__new__(EpochBasedTrainLoop)
    loop.dataloader, loop._epoch, loop._iter = loader, epoch, iteration
    loop._max_epochs, loop.val_begin, loop.val_interval = 12, 2, 2
    return SimpleNamespace(
        train_loop=loop,
        epoch=epoch,
        logger=SimpleNamespace(info=lambda text: None),
        message_hub=SimpleNamespace(runtime_info={}),
        val_loop=SimpleNamespace(run=lambda: ran.append(epoch)),
    )


ran = []


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('own', [False, True])
def test_only_the_first_epoch_leaves_out_batches(workers, own):
    data = torch.arange(10)
    how = {'batch_sampler': BatchSampler(range(10), 3, False)} if own else {'batch_size': 3}
    loader = DataLoader(data, num_workers=workers, persistent_workers=workers > 0, **how)
    runner = resumed(2, 10, loader)
    assert batches_done(runner) == 2
    ResumeHook().before_train(runner)
    assert len(loader) == 4
    assert loader.batch_sampler.batch_size == 3
    passes = [[batch.tolist() for batch in loader] for _ in range(3)]
    assert passes[0] == [[6, 7, 8], [9]]
    assert passes[1] == passes[2] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


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
    runner = resumed(epoch, 4 * epoch, range(4))
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
