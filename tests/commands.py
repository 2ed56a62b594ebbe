"""Fixtures that run the commands of mmca in the process of the tests."""

import sys

import numpy as np
import pytest

from mmca.cli.main import main
from tests.helpers import SMALL_IMAGES, TINY, error_line, forget_mmengine, write_image


@pytest.fixture(autouse=True)
def forget():
    """Start without mmengine's global state; returns what makes it forget again."""
    forget_mmengine()
    return forget_mmengine


@pytest.fixture
def fail(capsys):
    """Run a command that must end with one line on stderr and the exit code 2; returns the line."""

    def run(*argv):
        assert main([str(word) for word in argv]) == 2
        out, err = capsys.readouterr()
        assert 'Traceback' not in out
        assert err == f'{error_line(err)}\n'
        return err

    return run


@pytest.fixture
def tiny_run(tmp_path, monkeypatch):
    """A small segmentor with a few images in ADE20K's layout: its config and options."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'ADEChallengeData2016'
    for split in ('training', 'validation'):
        for kind, suffix, shape in (
            ('images', 'jpg', (32, 48, 3)),
            ('annotations', 'png', (32, 48)),
        ):
            for i in range(2):
                values = rng.integers(0, 150, shape, dtype=np.uint8)
                write_image(folder / kind / split / f'{i}.{suffix}', values)
    monkeypatch.setenv('MMCA_DATA_ROOT', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', ['tool'])
    config = tmp_path / 'tiny.py'
    config.write_text(TINY)
    return [str(config), '--work-dir', str(tmp_path / 'work'), '--cfg-options', *SMALL_IMAGES]
