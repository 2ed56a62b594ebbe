"""Report versions and devices, what is missing or does not work, and how to fix it.

Needs no other package. Exits with 0 if detectors and segmentors can be trained and tested, else 1.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import mmca
from mmca.config.installation import OPTIONAL, TASKS, examine, missing_for

REQUIRES = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the report; returns the exit status."""
    findings = examine()
    print(f'mmca {mmca.__version__} in {Path(mmca.__file__).parent}')
    print(f'Python {platform.python_version()}, {sys.executable}\n')
    print(f'{"package":14}{"version":16}state')
    for found in findings:
        print(f'{found.name:14}{found.version:16}{found.state}')
    print()
    ready = True
    for task, packages in TASKS.items():
        missing = missing_for(task, findings)
        print(f'{task}: {"not ready: " + ", ".join(missing) if missing else "ready"}')
        ready = ready and (not missing or bool(set(packages) & set(OPTIONAL)))
    problems = [found for found in findings if found.problem]
    print('\nto fix:' if problems else '')
    for fix in dict.fromkeys(found.fix for found in problems):
        print(f'- {"; ".join(found.problem for found in problems if found.fix == fix)}')
        print(f'    {fix}')
    return 0 if ready else 1
