"""Report versions, devices and problems of the environment, and how to fix them.

The exit status is 0 if detectors and segmentors can be trained and tested, otherwise 1.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import mmca
from mmca.config.installation import TASKS, examine, missing_for

REQUIRES = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(args: argparse.Namespace) -> int:
    findings = examine()
    print(f'mmca {mmca.__version__} in {Path(mmca.__file__).parent}')
    print(f'Python {platform.python_version()}, {sys.executable}\n')
    print(f'{"package":14}{"version":16}state')
    for found in findings:
        print(f'{found.name:14}{found.version:16}{found.state}')
    print()
    missing = {task: missing_for(task, findings) for task in TASKS}
    for task, names in missing.items():
        print(f'{task}: {"not ready: " + ", ".join(names) if names else "ready"}')
    problems = [found for found in findings if found.problem]
    print('\nto fix:' if problems else '')
    for fix in dict.fromkeys(found.fix for found in problems):
        print(f'- {"; ".join(found.problem for found in problems if found.fix == fix)}')
        print(f'    {fix}')
    return 1 if missing['detectors'] or missing['segmentors'] else 0
