"""Two processes are preempted as one, and neither is left behind."""

import itertools
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.stress.training import Training, make_data, same

PORTS = itertools.count(29700)


def two_processes(folder, name, *options):
    """A training in two processes, with the data of :func:`make_data`."""
    launcher = ['torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(next(PORTS))]
    training = Training('epochs', folder, name, launcher=launcher)
    training.options += options
    return training


def ranks(training):
    """The numbers of a training's processes, by rank."""
    children = subprocess.run(
        ['pgrep', '-P', str(training.process.pid)], capture_output=True, text=True
    ).stdout.split()
    found = {}
    for pid in children:
        rank = re.search(rb'\bRANK=(\d+)', Path(f'/proc/{pid}/environ').read_bytes())
        found[int(rank[1])] = int(pid)
    return found


@pytest.mark.stress
@pytest.mark.parametrize(
    ('rank', 'number'), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)]
)
def test_a_lost_process_ends_the_other(rank, number, tmp_path):
    make_data(tmp_path)
    training = two_processes(tmp_path, 'two', 'env_cfg.dist_cfg.timeout=10')
    training.start()
    training.wait_for('training 4')
    pid = ranks(training)
    start = time.monotonic()
    os.kill(pid[rank], number)
    assert training.process.wait(90) == 1
    assert time.monotonic() - start < 75  # torchrun waits 30 s for a process that hangs
    (line,) = [line for line in training.output.splitlines() if line.startswith('error: ')]
    assert 'resume with the same command and --resume' in line
    with pytest.raises(ProcessLookupError):
        os.kill(pid[1 - rank], 0)


@pytest.mark.stress
@pytest.mark.parametrize('whom', ['launcher', 'all', 'second'])
def test_two_processes_are_preempted(whom, tmp_path):
    make_data(tmp_path)
    whole = two_processes(tmp_path, 'whole')
    whole.start()
    expected = whole.end()
    broken = two_processes(tmp_path, 'broken')
    broken.start()
    broken.wait_for('training 4')
    process = broken.process
    if whom == 'launcher':
        process.terminate()
    elif whom == 'all':
        os.killpg(process.pid, signal.SIGTERM)
    else:
        os.kill(ranks(broken)[1], signal.SIGTERM)
    assert process.wait(90) == 1
    assert torch.load(broken.work_dir / 'preempted.pth', weights_only=False)['meta']['iter'] > 4
    broken.start('--resume')
    assert same(expected, broken.end())
