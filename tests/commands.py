"""Fixtures for tests that run commands of mmca in their own process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mmca.cli.main import main
from tests.helpers import ROOT, SMALL_IMAGES, TINY, error_line, forget_mmengine, write_image


@pytest.fixture(autouse=True)
def forget():
    """Start without mmengine's global state; returns the function that clears it."""
    forget_mmengine()
    return forget_mmengine


@pytest.fixture
def fail(capsys):
    """Run a command that must fail with exit code 2; returns its one line on stderr."""

    def run(*argv):
        assert main([str(word) for word in argv]) == 2
        out, err = capsys.readouterr()
        assert 'Traceback' not in out
        assert err == f'{error_line(err)}\n'
        return err

    return run


@pytest.fixture
def tiny_run(tmp_path, monkeypatch):
    """Config and options of a small segmentor with two images a split in ADE20K's layout."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'ADEChallengeData2016'
    for split in ('training', 'validation'):
        for i in range(2):
            pixels, labels = rng.integers(0, 150, (32, 48, 3)), rng.integers(0, 150, (32, 48))
            write_image(folder / f'images/{split}/{i}.jpg', pixels)
            write_image(folder / f'annotations/{split}/{i}.png', labels)
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    config = tmp_path / 'tiny.py'
    config.write_text(TINY)
    return [str(config), '--work-dir', str(tmp_path / 'work'), '--cfg-options', *SMALL_IMAGES]


def run_script(name, *argv, root=''):
    """Run a script of tools/; returns what it prints, or its one line on stderr."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'MMCA_DATA_ROOT': str(root)}
    command = [sys.executable, ROOT / 'tools' / name, *argv]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode in (0, 2), done.stderr
    return error_line(done.stderr) if done.returncode else done.stdout
