"""Every command runs in the process of the tests."""

import pytest

from mmca.cli.main import main
from tests.commands import fail, forget
from tests.helpers import error_line

__all__ = ['fail', 'forget']


@pytest.fixture
def out(capsys):
    """Run a command that must succeed; returns what it prints."""

    def run(*argv):
        assert main([str(word) for word in argv]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys, forget):
    """Run a command whose checks must stop it with status 2; returns its one line of error."""

    def run(*argv):
        forget()
        try:
            code = main([str(word) for word in argv])
        except SystemExit as stop:  # which a runner raises
            code = stop.code
        assert code == 2
        out, err = capsys.readouterr()
        assert 'Traceback' not in out
        return error_line(err)

    return run
