"""The documentation's commands parse, its configs exist, its Python code compiles and imports."""

import argparse
import ast
import re
import runpy
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise

import pytest

from benchmarks.__main__ import _parser
from mmca.cli.main import COMMANDS, main
from mmca.config.shipped import config_names, find_config
from tests.helpers import ROOT

PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])
FENCED = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r'(?:^    .*\n?)+', re.MULTILINE)
INLINE = re.compile(r'`(mmca [a-z][^`]*)`')
EVERY = '{train,val,test}'  # bash makes several words of it; one tells as much


def blocks(text: str, language: str) -> Iterator[str]:
    """The fenced blocks of one language."""
    return (code for name, code in FENCED.findall(text) if name == language)


def commands(text: str) -> Iterator[str]:
    """The lines of shell code, fenced or indented, continued ones joined."""
    code = [*blocks(text, 'bash'), *INDENTED.findall(FENCED.sub('', text))]
    for line in '\n'.join(code).replace('\\\n', ' ').splitlines():
        if line.strip() and not line.lstrip().startswith('#'):
            yield line.strip()


def argv_of(line: str) -> list[str] | None:
    """What comes after `mmca` in a command, whoever starts it; None for other commands."""
    words = shlex.split(line.replace(EVERY, 'train'), comments=True)
    for index, word in enumerate(words):
        before = ' '.join(words[:index])
        started = not before or before.endswith('-m') or before.startswith(('srun', 'docker run'))
        if word == 'mmca' and started:
            return words[index + 1 :]
        if word.startswith('tools/') and before.endswith('python'):
            script = (ROOT / word).read_text()  # such as run_command('train', ...)
            found = re.search(r"run_command\('([\w-]+)'", script)
            return found and [found[1], *words[index + 1 :]]
        if found := re.fullmatch(r'tools/dist_(train|test)\.sh', word):
            number = index + (2 if found[1] == 'train' else 3)  # where GPUS stands
            assert words[number].isdigit(), line
            return [found[1], *words[index + 1 : number], *words[number + 1 :]]
    return None


@pytest.fixture
def parse(monkeypatch):
    """Parse a command of mmca without running it; returns its arguments."""

    def run(argv: list[str]) -> argparse.Namespace | None:
        if not argv or argv[0].startswith('-'):
            assert main(argv) == 0
            return None
        seen = []
        command = import_module(f'mmca.cli.{argv[0].replace("-", "_")}')
        monkeypatch.setattr(command, 'run', lambda args: seen.append(args) or 0)
        monkeypatch.setattr(command, 'REQUIRES', ())
        assert main(argv) == 0
        (args,) = seen
        if 'parser' in args:  # flags that mmca does not know would go to a library's tool
            args.parser.parse_args(args.argv)
        return args

    return run


def check_config(name: str) -> None:
    """A config is shipped, unless it is a placeholder (CONFIG) or a file of the reader's."""
    own = name.isupper() or (name.endswith('.py') and '/' not in name)
    if not own:
        find_config(name)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_mmca_parse_and_their_configs_exist(page, parse, capsys):
    text = page.read_text()
    for line in commands(text):
        argv = argv_of(line)
        if argv is None:
            assert not line.startswith(('mmca', 'python tools/')), line
            continue
        try:
            args = parse(argv)
        except SystemExit as error:  # 0 after --help
            if error.code:
                pytest.fail(f'{line}: {capsys.readouterr().err}')
            continue
        if getattr(args, 'config', None):
            check_config(args.config)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_within_sentences_name_known_flags(page, capsys):
    for command in INLINE.findall(page.read_text()):
        name, *words = command.split()[1:]
        assert name in COMMANDS, command
        with pytest.raises(SystemExit):
            main([name, '--help'])
        usage = capsys.readouterr().out
        for flag in (word for word in words if word.startswith('--')):
            assert re.search(rf'{flag}\b', usage), command


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_compiles_and_its_imports_exist(page):
    for code in blocks(page.read_text(), 'python'):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith('mmca'):
                module = import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), code
        for name in re.findall(r"'mmca::([^']+)'", code):
            find_config(name)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_targets_of_make_files_of_pip_and_flags_of_benchmarks_exist(page):
    makefile = (ROOT / 'Makefile').read_text()
    targets = re.findall(r'^([\w-]+):', makefile, re.MULTILINE)
    targets += [f'{name}-env' for name in re.search('EXTRAS := (.*)', makefile)[1].split()]
    for line in commands(page.read_text()):
        words = shlex.split(line.replace(EVERY, 'train'), comments=True)
        if words and words[0] == 'make':
            assert set(words[1:]) <= set(targets), line
        if words[:3] == ['python', '-m', 'benchmarks'] and '--device' not in words:
            _parser().parse_args(words[3:])  # raises what is wrong
        for flag, value in pairwise(words):
            if flag in ('-r', '-f'):
                assert (ROOT / value).is_file(), line


def test_names_of_configs_in_tables_exist():
    folders = '|'.join(sorted({name.partition('/')[0] for name in config_names()}))
    for page in PAGES:
        for name in re.findall(rf'`((?:{folders})/[a-z0-9_]+)`', page.read_text()):
            assert name in config_names(), page


def test_the_model_zoo_is_up_to_date():
    """If not: python docs/scripts/model_zoo.py."""
    zoo = runpy.run_path(str(ROOT / 'docs/scripts/model_zoo.py'))
    assert zoo['page']() == zoo['PAGE'].read_text()
