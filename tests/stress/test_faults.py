"""A training that is killed or preempted, again and again, ends where an unbroken one does."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch

from tests.helpers import ROOT
from tests.hooks.test_seed import COMMON, DETECTOR, SEGMENTOR

# Seconds after the beginning of a phase within which a run is stopped.
SECONDS = {'start': 6.0, 'training': 0.6, 'saving': 0.5, 'validation': 0.3}
STARTED = [
    'custom_imports.imports=[mmca,tests.stress.phases]',
    'default_hooks.phases.type=PhaseHook',
]
KINDS = {
    'epochs': (
        'maskrcnn_ca_pvt_mini',
        [*DETECTOR, 'default_hooks.checkpoint.save_best=coco/bbox_mAP'],
    ),
    'iterations': ('upernet_ca_swin_mini', [*SEGMENTOR, 'default_hooks.checkpoint.save_best=mIoU']),
}
LENGTHS = {'epochs': ('train_cfg.max_epochs', 6), 'iterations': ('train_cfg.max_iters', 36)}
EVERY = {'epochs': 1, 'iterations': 6}  # what lies between two checkpoints, and two validations


class Training:
    """One training, by `mmca train` in a process of its own, as often as it takes.

    Args:
        kind: 'epochs' (six iterations each) or 'iterations'.
        folder: for data, work dirs and output.
        name: of the work dir.
        length: factor of the number of epochs or iterations.
    """

    def __init__(self, kind, folder, name, length=1):
        self.work_dir, self._folder = folder / name, folder
        config, options = KINDS[kind]
        key, end = LENGTHS[kind]
        options = [*COMMON, *options, *STARTED, f'{key}={end * length}']
        options += [f'train_cfg.val_interval={EVERY[kind]}']
        options += [f'default_hooks.checkpoint.interval={EVERY[kind]}']
        options += ['default_hooks.checkpoint.max_keep_ckpts=1']
        self._command = [sys.executable, '-m', 'mmca', 'train', f'configs/mini/{config}.py']
        self._command += ['--work-dir', str(self.work_dir), '--cfg-options', *options]
        self._phase = folder / f'{name}.phase'

    def start(self, *flags):
        self._phase.write_text('start')
        env = {**os.environ, 'MMCA_DATA_ROOT': str(self._folder), 'MMCA_SLOW_DISK': '0.5'}
        env['MMCA_PHASES'] = str(self._phase)
        with open(f'{self.work_dir}.txt', 'a') as output:
            self.process = subprocess.Popen(
                [*self._command, *flags],
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, phase, delay, number):
        """Send a signal some seconds after a phase begins; returns the phase that it hit."""
        while not self.phase.startswith(phase):
            assert self.process.poll() is None, self.output
            time.sleep(0.005)
        time.sleep(delay)
        hit = self.phase
        self.process.send_signal(number)
        return hit.split()[0]

    @property
    def phase(self):
        return self._phase.read_text()

    @property
    def output(self):
        with open(f'{self.work_dir}.txt') as file:
            return file.read()[-4000:]

    @property
    def checkpoints(self):
        return [path for path in self.work_dir.glob('*.pth') if not path.name.startswith('best')]

    def end(self):
        assert self.process.wait(300) == 0, self.output
        return {
            path.name: torch.load(path, weights_only=False)
            for path in self.work_dir.glob('*.pth')
            if path.name != 'preempted.pth'
        }


def differences(one, other, place=''):
    """Where two contents of checkpoints differ."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, dict):
        items = [(key, one[key], other[key]) for key in one] if one.keys() == other.keys() else None
    elif isinstance(one, (list, tuple)):
        items = [(i, *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if one == other else [place]
    if items is None:
        return [place]
    return [name for key, a, b in items for name in differences(a, b, f'{place}/{key}')]


def same(whole, broken):
    """Whether two runs left the same checkpoints, to the last bit."""
    assert whole.keys() == broken.keys()
    for name, content in whole.items():
        parts = ['state_dict', *(['optimizer', 'param_schedulers'] if name[:4] != 'best' else [])]
        for part in parts:
            assert differences(content[part], broken[name][part]) == [], (name, part)
    return True


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
        code = broken.process.wait(60)
        expected = 143 if number == signal.SIGTERM and phase != 'start' else -number
        assert code == expected, broken.output
        hits[f'{hit} {number.name}'] += 1
        had_one = had_one or bool(broken.checkpoints)
        survived += not had_one or loadable(broken)
    broken.start('--resume')
    assert same(whole.end(), broken.end())
    return hits, survived


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_a_few_stops(kind, data):
    stops = [
        ('saving', signal.SIGKILL),
        ('training 8', signal.SIGTERM),
        ('validation', signal.SIGKILL),
    ]
    _, survived = stop_again_and_again(kind, data, stops)
    assert survived == len(stops)


@pytest.mark.stress
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize('kind', KINDS)
def test_twenty_stops(kind, number, data, tally):
    phases = random.Random(number).choices([*SECONDS], [3, 7, 6, 4], k=20)
    hits, survived = stop_again_and_again(kind, data, [(p, number) for p in phases], length=3)
    text = ', '.join(f'{count} {hit}' for hit, count in sorted(hits.items()))
    tally(f'training in {kind} stopped, resumed, equal to the last bit ({text})', 20, survived)
