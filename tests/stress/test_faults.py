"""A training that is killed or preempted, again and again, ends where an unbroken one does."""

import random
import signal
import subprocess
import sys
from collections import Counter

import pytest
import torch

from tests.helpers import ROOT
from tests.stress.training import KINDS, MARK, Training, same

# Seconds after the beginning of a phase within which a run is stopped.
SECONDS = {'start': 6.0, 'training': 0.6, 'saving': 0.5, 'validation': 0.3}


def loadable(training):
    """Whether a checkpoint can be resumed, among them that which `last_checkpoint` names."""
    named = (training.work_dir / 'last_checkpoint').read_text()
    return bool(torch.load(named, weights_only=False)['optimizer'])


@pytest.fixture
def data(tmp_path):
    command = [sys.executable, 'tools/make_mini.py', '--out', str(tmp_path / 'mini')]
    subprocess.run([*command, '--train', '12', '--val', '2'], cwd=ROOT, check=True)
    return tmp_path


def stop_again_and_again(kind, folder, stops, length=1):
    """Train with and without stops.

    Args:
        kind: see `Training`.
        folder: with the data.
        stops: (phase, signal) of each stop.
        length: see `Training`.

    Returns:
        What the stops hit, and how many of them left a checkpoint that loads, or nothing before
        the first one.
    """
    draw = random.Random(f'{kind} {len(stops)}')
    whole = Training(kind, folder, 'whole', length)
    whole.start()
    broken = Training(kind, folder, 'broken', length)
    hits, survived, had_one = Counter(), 0, False
    for phase, number in stops:
        broken.start(*(['--resume'] if broken.work_dir.exists() else []))
        hit = broken.stop(phase, draw.uniform(0, SECONDS[phase.split()[0]]), number)
        code = broken.process.wait(120)
        asked = 'SIGTERM: stopping' in broken.output.rsplit(MARK, 1)[-1]
        assert code == (143 if asked else -number), broken.output
        hits[f'{hit} {number.name}'] += 1
        had_one = had_one or bool(broken.checkpoints)
        survived += not had_one or loadable(broken)
    broken.start('--resume')
    assert same(whole.end(), broken.end())
    assert not broken.leaves_processes()
    return hits, survived


@pytest.mark.parametrize(
    'number', [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.stress)]
)
def test_one_stop(number, data):
    phase = 'saving' if number == signal.SIGKILL else 'training 8'
    _, survived = stop_again_and_again('iterations', data, [(phase, number)])
    assert survived == 1


@pytest.mark.stress
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize('kind', KINDS)
def test_twenty_stops(kind, number, data, tally):
    phases = random.Random(number).choices([*SECONDS], [3, 7, 6, 4], k=20)
    hits, survived = stop_again_and_again(kind, data, [(p, number) for p in phases], length=3)
    text = ', '.join(f'{count} {hit}' for hit, count in sorted(hits.items()))
    tally(f'training in {kind} stopped, resumed, equal to the last bit ({text})', 20, survived)
