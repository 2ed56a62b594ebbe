"""A training that is killed or preempted, again and again, ends where an unbroken one does."""

import random
import signal

import pytest
import torch

from tests.helpers import needs_mmpretrain
from tests.stress.training import MARK, Training, make_data, same

# Seconds after the beginning of a phase within which a run is stopped.
SECONDS = {'start': 6.0, 'training': 0.6, 'saving': 0.5, 'validation': 0.3}


def loadable(training):
    """Whether the checkpoint that `last_checkpoint` names can be resumed."""
    named = (training.work_dir / 'last_checkpoint').read_text()
    return bool(torch.load(named, weights_only=False)['optimizer'])


def stop_again_and_again(kind, folder, stops, length=1):
    """Train with and without stops, each a (phase, signal); compare what both leave.

    Every stop leaves a checkpoint that loads, or none before the first one.
    """
    make_data(folder)
    draw = random.Random(f'{kind} {len(stops)}')
    whole = Training(kind, folder, 'whole', length)
    whole.start()
    broken = Training(kind, folder, 'broken', length)
    had_one = False
    for phase, number in stops:
        broken.start(*(['--resume'] if broken.work_dir.exists() else []))
        broken.stop(phase, draw.uniform(0, SECONDS[phase.split()[0]]), number)
        code = broken.process.wait(120)
        asked = 'SIGTERM: stopping' in broken.output.rsplit(MARK, 1)[-1]
        assert code == (143 if asked else -number), broken.output
        had_one = had_one or bool(broken.checkpoints)
        assert not had_one or loadable(broken)
    broken.start('--resume')
    assert same(whole.end(), broken.end())
    assert not broken.leaves_processes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'phase', 'number'),
    [
        ('iterations', 'saving', signal.SIGKILL),
        ('epochs', 'training 8', signal.SIGTERM),
        pytest.param('classifier', 'training 8', signal.SIGKILL, marks=needs_mmpretrain),
    ],
)
def test_one_stop(kind, phase, number, tmp_path):
    stop_again_and_again(kind, tmp_path, [(phase, number)])


@pytest.mark.stress
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
def test_twenty_stops(kind, number, tmp_path):
    phases = random.Random(number).choices([*SECONDS], [3, 7, 6, 4], k=20)
    stop_again_and_again(kind, tmp_path, [(phase, number) for phase in phases], length=3)
