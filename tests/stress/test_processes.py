"""Several processes train as one, are preempted as one, and none is left behind."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT
from tests.stress.training import Training, same
from tests.tools.test_dist_scripts import CONFIG, train

PORTS = itertools.count(29700)


def mini(folder, train_images, val_images):
    """The synthetic data set; returns its root."""
    command = [sys.executable, 'tools/make_mini.py', '--out', str(folder / 'mini')]
    numbers = ['--train', str(train_images), '--val', str(val_images)]
    subprocess.run([*command, *numbers], cwd=ROOT, check=True)
    return folder


def farthest(one, other):
    """The largest difference between two sets of weights."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max() for name in one)


@pytest.mark.stress
def test_processes_train_as_one(tmp_path, tally):
    root = mini(tmp_path, 15, 2)  # the 16 images of a run are no multiple of the data set's
    single = [sys.executable, 'tools/train.py', CONFIG]
    one = train(single, tmp_path / 'one', 4, root)
    other = train(single, tmp_path / 'other', 2, root)
    far = farthest(one, other)
    two = train(['tools/dist_train.sh', CONFIG, '2'], tmp_path / 'two', 2, root)
    near = farthest(one, two)
    tally(f'two processes as one, 15 images: {near:.1e}, others {far:.1e}', 1, near < 1e-4)

    launcher = f"""
cd {ROOT}
for rank in 0 1; do
    NNODES=2 NODE_RANK=$rank tools/dist_train.sh {CONFIG} 1 "$@" & processes="$processes $!"
done
for process in $processes; do wait $process || exit 1; done"""
    launchers = train(['bash', '-c', launcher, 'launchers'], tmp_path / 'launchers', 2, root)
    tally(
        'two launchers of one process as one of two, to the last bit',
        1,
        farthest(two, launchers) == 0,
    )


def two_processes(folder, name, *options):
    """A training in two processes."""
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
def test_a_lost_process_ends_the_other(rank, number, tmp_path, tally):
    training = two_processes(mini(tmp_path, 12, 2), 'two', 'env_cfg.dist_cfg.timeout=10')
    training.start()
    training.wait_for('training 4')
    pid = ranks(training)
    start = time.monotonic()
    os.kill(pid[rank], number)
    assert training.process.wait(90) == 1
    assert time.monotonic() - start < 75  # torchrun waits 30 s for a process that hangs
    assert training.output.count('error: another process of this run failed') == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid[1 - rank], 0)
    tally(f'{number.name} to process {rank} ends both', 1, 1)


@pytest.mark.stress
@pytest.mark.parametrize('whom', ['launcher', 'all', 'second'])
def test_two_processes_are_preempted(whom, tmp_path, tally):
    root = mini(tmp_path, 12, 2)
    whole = two_processes(root, 'whole')
    whole.start()
    expected = whole.end()
    broken = two_processes(root, 'broken')
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
    tally(
        f'two processes, SIGTERM to {whom}: equal to the last bit', 1, same(expected, broken.end())
    )
