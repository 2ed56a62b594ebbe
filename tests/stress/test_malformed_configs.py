"""Every fault of a config ends in one line that names the key and the remedy, before training."""

import sys
from pathlib import Path

import pytest

from mmca.cli.main import main
from tests.helpers import forget_mmengine
from tests.stress.malformed_configs import CASES, Case, write_detector


def line_of(case: Case, base: Path, capfd) -> str:
    """Train with a faulty config; the one line that the command prints, or what it did instead."""
    path = base.with_name('case.py')
    inherits = '' if '_base_ =' in case.text else f'_base_ = {str(base)!r}\n'
    path.write_text(inherits + case.text)
    options = ['--cfg-options', *case.options] if case.options else []
    forget_mmengine()
    try:
        code = main(['train', str(path), '--work-dir', str(base.with_name('work')), *options])
    except Exception as error:
        return f'traceback: {type(error).__name__}: {error}'
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    if code != 2 or len(lines) != 1 or 'Traceback' in out + err:
        return f'exit code {code}, {len(lines)} lines: {lines}'
    return lines[0]


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tool'])
    return write_detector(tmp_path)


@pytest.mark.parametrize('case', CASES[::5], ids=lambda case: case.name)
def test_a_fault_is_named(case, base, capfd):
    line = line_of(case, base, capfd)
    assert [text for text in case.says if text not in line] == [], line


@pytest.mark.stress
def test_all_faults_are_named(base, capfd, tally):
    lines = {case.name: line_of(case, base, capfd) for case in CASES}
    failed = [c for c in CASES if not all(text in lines[c.name] for text in c.says)]
    for case in failed:
        print(case.name, '->', lines[case.name])
    tally('malformed configs through mmca train', len(CASES), len(CASES) - len(failed))
