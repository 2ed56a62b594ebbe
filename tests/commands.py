"""Fixtures for tests that run commands of mmca in their own process."""

import pytest

from mmca.cli.main import main
from tests.helpers import ROOT, error_line, forget_mmengine, python


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


def run_script(name, *argv, root=''):
    """Run a script of tools/; returns what it prints, or its one line on stderr."""
    done = python(ROOT / 'tools' / name, *argv, env={'MMCA_DATA_ROOT': str(root)})
    assert done.returncode in (0, 2), done.stderr
    return error_line(done.stderr) if done.returncode else done.stdout
