"""Start the library's own train or test tool for a config.

The tool runs in a separate process, as python -m mmca.engine.launch LIBRARY SCRIPT [words ...]:
some tools build mmengine's own runner, and all read the config before any runner could report an
error.
"""

from __future__ import annotations

import argparse
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mmca.config.reader import library_of, load_config, quiet_reading
from mmca.config.shipped import PACKAGE, checkout, find_config
from mmca.engine.check_hook import CheckHook
from mmca.engine.failures import reported
from mmca.engine.runner import import_library
from mmca.engine.safe_loading import refuse_code
from mmca.errors import InputError

OPTIONS = '--cfg-options'
OWN = ['runner_type=mmca.Runner', 'default_hooks.checks.type=mmca.CheckHook']


def launch(tool: str, config: str, words: Sequence[str]) -> int:
    """Run the train or test tool of the library that a config belongs to.

    Except on Windows the tool replaces this process, so signals and exit codes are the tool's.

    Args:
        tool: 'train' or 'test'.
        config: a file, or the name of a shipped config.
        words: the rest of the command line, for the tool.

    Returns:
        The tool's exit code, on Windows.

    Raises:
        InputError: the config cannot be read, or its library has no such tool.
    """
    cfg = load_config(config, options_in(words))
    library = library_of(cfg, config)
    script = find_tool(library, tool)
    if not cfg.get('runner_type'):
        # The user's options come after ours, to override them.
        words = [*words, OPTIONS, *OWN, *options_in(words)]
    command = [sys.executable, '-m', 'mmca.engine.launch', library, str(script)]
    command += [find_config(config), *words]
    # OpenMP's waiting threads spin, and make trainings beside each other many times slower.
    environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ}
    if checkout() is not None:  # it may not be installed
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
        environment['PYTHONPATH'] = os.pathsep.join(paths)
    sys.stdout.flush()
    if os.name == 'nt':
        return subprocess.call(command, env=environment)
    os.execve(sys.executable, command, environment)


def find_tool(library: str, tool: str) -> Path:
    """Find a library's 'train' or 'test' script, in the installed package or its checkout.

    Raises:
        InputError: the library has no such script.
    """
    package = Path(find_spec(library).origin).parent
    for folder in (package / '.mim' / 'tools', package.parent / 'tools'):
        if (folder / f'{tool}.py').is_file():
            return folder / f'{tool}.py'
    raise InputError(f'{library} in {package} has no tools/{tool}.py; reinstall it')


def options_in(words: Sequence[str]) -> list[str]:
    """Collect the KEY=VALUE words of a command line.

    Example:
        >>> options_in(['--amp', '--cfg-options', 'a=1', 'b=2', '--resume', '--cfg-options=c=-3'])
        ['a=1', 'b=2', 'c=-3']
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(OPTIONS, nargs='+', action='extend', default=[])
    return parser.parse_known_args(words)[0].cfg_options


def _run_script() -> None:
    """Run the script in `sys.argv[2]` as Python itself would, with one-line errors."""
    refuse_code()
    logging.captureWarnings(True)  # the runner writes them to its log file
    quiet_reading()
    library, *sys.argv = sys.argv[1:]
    with reported(lambda: CheckHook.started):
        import_library(library)
        runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    _run_script()
