"""Training aborts when the loss stays NaN or infinite, and names the last good checkpoint."""

from types import SimpleNamespace

import pytest
import torch

from mmca.engine import FiniteLossHook
from mmca.errors import InputError

NAN, INF = float('nan'), float('inf')


def train(losses, work_dir, patience=3, per_epoch=10):
    """Feed losses to the hook; returns the number of iterations that it allowed."""
    hook = FiniteLossHook(patience)
    runner = SimpleNamespace(iter=0, work_dir=str(work_dir), train_dataloader=range(per_epoch))
    hook.before_train(runner)
    for loss in losses:
        hook.after_train_iter(runner, 0, None, {'loss': torch.tensor(loss)})
        runner.iter += 1
    hook.after_train(runner)
    return runner.iter


def save(path, value=1.0):
    torch.save({'state_dict': {'weight': torch.full((2,), value)}}, path)


@pytest.mark.parametrize(
    'losses',
    [
        [1.0] * 20,
        [1.0, NAN, NAN] * 10,  # never three in a row
        [INF, 1.0, NAN, 2.0] * 5,
        [1.0, NAN, NAN, NAN, 1.0, 1.0],  # over when it is looked at
        [1.0] * 6 + [NAN] * 2,
    ],
)
def test_single_bad_iterations_pass(losses, tmp_path):
    assert train(losses, tmp_path) == len(losses)


@pytest.mark.parametrize(('value', 'word'), [(NAN, 'nan'), (INF, 'inf'), (-INF, '-inf')])
def test_a_loss_that_stays_bad_ends_training(value, word, tmp_path):
    message = rf'the loss has been {word} since iteration 5 \(5 iterations\); there is no older'
    with pytest.raises(InputError, match=message):
        train([1.0] * 4 + [value] * 20, tmp_path)


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'], 'epoch_2.pth'),
        (['iter_5.pth', 'iter_24.pth', 'iter_25.pth'], 'iter_24.pth'),
        (['best_mIoU_iter_3.pth', 'other.pth'], 'there is no older checkpoint'),
    ],
)
def test_names_the_newest_checkpoint_from_before(names, expected, tmp_path):
    for name in names:
        save(tmp_path / name)
    with pytest.raises(InputError, match=expected):
        train([1.0] * 24 + [NAN] * 9, tmp_path)


def test_a_checkpoint_is_good_if_its_weights_are(tmp_path):
    """Gradients can spoil the weights in the step before the first bad loss."""
    save(tmp_path / 'iter_8.pth')
    save(tmp_path / 'iter_9.pth', NAN)
    (tmp_path / 'iter_10.pth').touch()
    with pytest.raises(InputError, match=r'iter_8\.pth'):
        train([1.0] * 10 + [NAN] * 9, tmp_path)


@pytest.mark.parametrize('losses', [[NAN], [NAN, NAN], [NAN] * 5, [1.0] * 6 + [NAN] * 5])
def test_bad_losses_at_the_end(losses, tmp_path):
    with pytest.raises(InputError, match=f'since iteration {losses.index(NAN) + 1} '):
        train(losses, tmp_path, patience=5 if len(losses) > 2 else 3)


def test_models_without_a_loss_are_left_alone(tmp_path):
    runner = SimpleNamespace(iter=0, work_dir=str(tmp_path), train_dataloader=range(3))
    FiniteLossHook(1).after_train_iter(runner, 0, None, {'accuracy': 1.0})
    FiniteLossHook(1).after_train_iter(runner, 0, None, None)
    with pytest.raises(InputError, match='patience must be at least 1, got 0'):
        FiniteLossHook(0)
