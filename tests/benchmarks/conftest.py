"""What the tests of the benchmarks share. They check what is reported, never how fast it is."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # for new processes, too

from benchmarks.__main__ import build_parser, main
from benchmarks.measurement import MODES

QUICK = ('--rounds', '2', '--warmup', '1', '--no-memory')


@pytest.fixture
def report(tmp_path, capsys):
    """Run a command; returns the content of its JSON file."""

    def run(command, *argv):
        code = main([command, *QUICK, '--out', str(tmp_path), *argv])
        assert code == 0, capsys.readouterr().err
        found = json.loads((tmp_path / f'{command}.json').read_text())
        assert found['command'] == found['argv'][0] == command
        labels = {'command', 'date', 'machine', 'device', 'dtype', 'backend', 'threads', 'versions'}
        assert labels <= set(found['environment'])
        for case in found['cases']:
            for result in case['results'].values():
                assert all(len(result[mode]['seconds']) == 2 for mode in MODES)
        return found

    return run


@pytest.fixture
def parse():
    """Turn a command line into what suites get."""
    return lambda *argv: build_parser().parse_args(argv)
