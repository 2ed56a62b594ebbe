"""Training aborts when the loss stays NaN or infinite, and names the last good checkpoint."""

import os
from types import SimpleNamespace

import pytest
import torch

from mmca.engine import FiniteLossHook
from mmca.errors import InputError

NAN, INF = float('nan'), float('inf')


def train(losses, work_dir, patience=3):
    """Feed losses to the hook; returns the number of iterations that it allowed."""
    hook = FiniteLossHook(patience)
    runner = SimpleNamespace(iter=0, work_dir=str(work_dir))
    hook.before_train(runner)
    for loss in losses:
        hook.after_train_iter(runner, 0, None, {'loss': torch.tensor(loss)})
        runner.iter += 1
    hook.after_train(runner)
    return runner.iter


@pytest.mark.parametrize(
    'losses',
    [
        [1.0] * 20,
        [1.0, NAN, NAN] * 10,  # never three in a row
        [INF, 1.0, NAN, 2.0] * 5,
        [1.0, NAN, NAN, NAN, 1.0, 1.0],  # over at the next check
        [1.0] * 6 + [NAN] * 2,
    ],
)
def test_single_bad_iterations_pass(losses, tmp_path):
    assert train(losses, tmp_path) == len(losses)


@pytest.mark.parametrize('value', [NAN, INF, -INF])
def test_a_loss_that_stays_bad_aborts_training(value, tmp_path):
    message = rf'been {value} since iteration 5 \(5 iterations\); no older checkpoint has finite'
    with pytest.raises(InputError, match=message):
        train([1.0] * 4 + [value] * 20, tmp_path)


def test_the_newest_checkpoint_with_finite_weights_is_named(tmp_path):
    """Gradients can spoil the weights in the step before the first bad loss."""
    for iteration, value in enumerate([1.0, 1.0, 1.0, NAN, 1.0], 22):
        path = tmp_path / f'iter_{iteration}.pth'
        weights = {'weight': torch.full((2,), value)}
        torch.save({'state_dict': weights, 'meta': {'iter': iteration}}, path)
        os.utime(path, (iteration, iteration))
    (tmp_path / 'iter_27.pth').touch()
    with pytest.raises(InputError, match=r'since iteration 26 .* is \S*iter_24\.pth;'):
        train([1.0] * 25 + [NAN] * 9, tmp_path)


@pytest.mark.parametrize('losses', [[NAN], [NAN, NAN], [NAN] * 5, [1.0] * 6 + [NAN] * 5])
def test_bad_losses_at_the_end(losses, tmp_path):
    with pytest.raises(InputError, match=f'since iteration {losses.index(NAN) + 1} '):
        train(losses, tmp_path, patience=5 if len(losses) > 2 else 3)


def test_models_without_a_loss_are_left_alone():
    for outputs in ({'accuracy': 1.0}, None):
        FiniteLossHook(1).after_train_iter(SimpleNamespace(iter=0), 0, None, outputs)
    with pytest.raises(InputError, match='patience must be at least 1, got 0'):
        FiniteLossHook(0)
