"""From a config's name to the library's own tool, with the user's own words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mmca.config.reader import library_of, load_config
from mmca.config.shipped import PACKAGE, checkout, find_config
from mmca.errors import InputError

OPTIONS = '--cfg-options'
OWN = ['runner_type=mmca.Runner', 'default_hooks.checks.type=mmca.CheckHook']


def launch(tool: str, config: str, words: Sequence[str]) -> int:
    """Run the train or test tool of the library that a config belongs to.

    The tool replaces this process, where the system can do that, so that signals and exit codes
    are the tool's.

    Args:
        tool: 'train' or 'test'.
        config: a file, or the name of a shipped config.
        words: the rest of the command line, as the tool takes it.

    Returns:
        The tool's exit code, on Windows.

    Raises:
        InputError: the config cannot be read, or its library has no such tool.
    """
    cfg = load_config(config, options_in(words))
    script = find_tool(library_of(cfg, config), tool)
    if not cfg.get('runner_type'):
        words = with_options(words, OWN)
    command = [sys.executable, '-m', 'mmca.engine.tool', str(script), find_config(config), *words]
    environment = dict(os.environ)
    if checkout() is not None:  # which need not be installed
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
        environment['PYTHONPATH'] = os.pathsep.join(paths)
    sys.stdout.flush()
    if os.name == 'nt':
        return subprocess.call(command, env=environment)
    os.execve(sys.executable, command, environment)


def find_tool(library: str, tool: str) -> Path:
    """The script of a library's tool.

    Args:
        library: 'mmdet', 'mmseg' or 'mmpretrain'.
        tool: 'train' or 'test'.

    Returns:
        The file in the installed package, or in the library's checkout.

    Raises:
        InputError: there is none.
    """
    package = Path(find_spec(library).origin).parent
    for folder in (package / '.mim' / 'tools', package.parent / 'tools'):
        if (folder / f'{tool}.py').is_file():
            return folder / f'{tool}.py'
    raise InputError(f'{library} in {package} has no tools/{tool}.py; install it again')


def options_in(words: Sequence[str]) -> list[str]:
    """The KEY=VALUE words of a command line.

    Example:
        >>> options_in(['--amp', '--cfg-options', 'a=1', 'b=2', '--resume'])
        ['a=1', 'b=2']
    """
    options: list[str] = []
    taken = False
    for word in words:
        if word.startswith('-'):
            taken = word.partition('=')[0] == OPTIONS
            options += [word.partition('=')[2]] if taken and '=' in word else []
        elif taken:
            options.append(word)
    return options


def with_options(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """Add options to a command line, in whose tool only the last --cfg-options counts.

    Example:
        >>> with_options(['--cfg-options', 'a=1'], ['b=2']), with_options(['--amp'], ['b=2'])
        (['--cfg-options', 'b=2', 'a=1'], ['--amp', '--cfg-options', 'b=2'])
    """
    if not options_in(words):
        return [*words, OPTIONS, *options]
    index = max(i for i, word in enumerate(words) if word.partition('=')[0] == OPTIONS)
    attached = [words[index].partition('=')[2]] if '=' in words[index] else []
    return [*words[:index], OPTIONS, *options, *attached, *words[index + 1 :]]
