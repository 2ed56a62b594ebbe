"""The table that ends a run of these tests: what was tried, how often, and what survived."""

from collections.abc import Callable

import pytest

ROWS = pytest.StashKey[list[tuple[str, int, int]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, int, int], None]:
    """A function of (what, tried, survived): adds a row, and fails where the two differ."""

    def add(what: str, tried: int, survived: int) -> None:
        request.config.stash[ROWS].append((what, tried, survived))
        assert tried > 0, what
        assert survived == tried, f'{what}: {tried - survived} of {tried} failed'

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash[ROWS]
    if rows:
        terminalreporter.section('tried and survived')
        for what, tried, survived in rows:
            terminalreporter.write_line(f'{survived:6} of {tried:6}  {what}')
