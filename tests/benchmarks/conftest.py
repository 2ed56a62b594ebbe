"""What the tests of the benchmarks share. They check what is reported, never how fast it is."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # for new processes, too

from benchmarks.__main__ import _parser, main

QUICK = ('--rounds', '2', '--warmup', '1', '--no-memory')


@pytest.fixture
def report(tmp_path, capsys):
    """Run a command; returns what its JSON file holds."""

    def run(command, *argv):
        code = main([command, *QUICK, '--out', str(tmp_path), *argv])
        assert code == 0, capsys.readouterr().err
        found = json.loads((tmp_path / f'{command}.json').read_text())
        assert found['command'] == command
        assert found['argv'][0] == command
        labels = {'command', 'date', 'machine', 'device', 'dtype', 'backend', 'threads', 'versions'}
        assert labels <= set(found['environment'])
        for case in found['cases']:
            for result in case['results'].values():
                for mode in ('forward', 'step'):
                    assert len(result[mode]['seconds']) == 2
                    assert result[mode]['low'] <= result[mode]['median'] <= result[mode]['high']
        return found

    return run


@pytest.fixture
def parse():
    """Turn a command line into what suites get."""
    return lambda *argv: _parser().parse_args(argv)


@pytest.fixture
def quick():
    """Flags of a short run."""
    return QUICK
