"""The documentation's commands parse, its configs exist, its Python code compiles and imports."""

import ast
import re
import runpy
import shlex
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise

import pytest

import experiments.__main__ as experiments
from benchmarks.__main__ import build_parser
from mmca.cli.main import COMMANDS, main
from mmca.config.reader import library_of, load_config
from mmca.config.shipped import config_names
from mmca.engine.launch import find_tool
from tests.helpers import ROOT

PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])
for generated in ('results/README.md', 'runs.md'):  # commands as typed at older commits
    PAGES.remove(ROOT / 'docs' / generated)
each_page = pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
FENCED = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r'(?:^    .*\n?)+', re.MULTILINE)
INLINE = re.compile(r'`(mmca [a-z][^`]*)`')
STARTS_MMCA = re.compile(r'([A-Z_]+=\S+|.*-m|srun.*|docker run.*)?')
EVERY = '{train,val,test}'  # bash makes several words of it; one is enough here


def blocks(text: str, language: str) -> Iterator[str]:
    """The fenced blocks of one language."""
    return (code for name, code in FENCED.findall(text) if name == language)


def text_of(page) -> str:
    """A page with the contents of its tabs at the margin."""
    tab = re.compile(r'^=== ".*\n((?:    .*\n|\n)*)', re.MULTILINE)
    return tab.sub(lambda found: textwrap.dedent(found[1]), page.read_text())


def commands(page) -> Iterator[list[str]]:
    """The words of each shell command, fenced or indented."""
    text = text_of(page)
    code = [*blocks(text, 'bash'), *INDENTED.findall(FENCED.sub('', text))]
    for line in '\n'.join(code).replace('\\\n', ' ').splitlines():
        if words := shlex.split(line.replace(EVERY, 'train'), comments=True):
            yield words


def argv_of(words: list[str]) -> list[str] | None:
    """The words after `mmca` in a command, whatever starts it; None for other commands."""
    for index, word in enumerate(words):
        if word == 'mmca' and STARTS_MMCA.fullmatch(' '.join(words[:index])):
            return words[index + 1 :]
        if found := re.fullmatch(r'tools/(?:dist_)?(train|test)\.(?:sh|py)', word):
            rest = words[index + 1 :]
            if word.endswith('.sh'):
                assert rest.pop(1 if found[1] == 'train' else 2).isdigit(), words  # GPUS
            return [found[1], *rest]
    return None


@cache
def parser_of(config: str, tool: str):
    """The function with which the tool of a config's library parses its command line."""
    shipped = config in config_names() or '::' in config
    if not shipped:  # a placeholder (CONFIG), a file of the checkout, or the reader's own file
        own = config.endswith('.py') and ('/' not in config or (ROOT / config).is_file())
        assert config.isupper() or own, config
    elif config.startswith(('imagenet', 'mini/pretrain')) and not find_spec('mmpretrain'):
        return lambda: True
    library = library_of(load_config(config), config) if shipped else 'mmdet'
    return runpy.run_path(str(find_tool(library, tool)))['parse_args']


def parse(argv: list[str], monkeypatch) -> None:
    """Parse a command of mmca, and the words for its library's tool, without running it."""
    seen = []
    if argv and argv[0] in COMMANDS:
        command = import_module(f'mmca.cli.{argv[0]}')
        monkeypatch.setattr(command, 'run', lambda args: seen.append(args) or 0)
        monkeypatch.setattr(command, 'REQUIRES', ())
    assert main(argv) == 0
    config = getattr(seen[0], 'config', None) if seen else None
    if config:
        parse_args = parser_of(config, 'test' if argv[0] == 'test' else 'train')
        monkeypatch.setattr(sys, 'argv', argv)
        monkeypatch.setenv('LOCAL_RANK', '0')  # parse_args sets it, too
        assert argv[0] not in ('train', 'test') or parse_args()


@each_page
def test_commands_of_mmca_parse_and_their_configs_exist(page, monkeypatch, capsys):
    for words in commands(page):
        argv = argv_of(words)
        if argv is not None:
            try:
                parse(argv, monkeypatch)
            except SystemExit as stop:  # 0 after --help
                if stop.code:
                    pytest.fail(f'{words}: {capsys.readouterr().err}')
        elif words[0] == 'python' and words[1].startswith('tools/'):
            flags = {f"'{word}'" for word in words if word.startswith('--')}
            assert all(flag in (ROOT / words[1]).read_text() for flag in flags), words
        else:
            assert words[0] != 'mmca', words


@each_page
def test_commands_within_sentences_name_known_flags(page, capsys):
    for command in INLINE.findall(page.read_text()):
        name, *words = command.split()[1:]
        assert name in COMMANDS, command
        with pytest.raises(SystemExit):
            main([name, '--help'])
        usage = capsys.readouterr().out
        for flag in (word for word in words if word.startswith('--')):
            assert re.search(rf'{flag}\b', usage), command


@each_page
def test_python_compiles_and_its_imports_exist(page):
    for code in blocks(text_of(page), 'python'):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith('mmca'):
                module = import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), code


@each_page
def test_targets_of_make_files_of_pip_flags_of_benchmarks_and_configs_exist(page):
    makefile = (ROOT / 'Makefile').read_text()
    targets = re.findall(r'^([\w-]+):', makefile, re.MULTILINE)
    targets += [f'{name}-env' for name in re.search('EXTRAS := (.*)', makefile)[1].split()]
    for words in commands(page):
        if words[0] == 'make':
            assert set(words[1:]) <= set(targets), words
        if words[:3] == ['python', '-m', 'benchmarks'] and '--device' not in words:
            build_parser().parse_args(words[3:])
        if words[:3] == ['python', '-m', 'experiments']:
            experiments.build_parser().parse_args(words[3:])
        for flag, value in pairwise(words):
            assert flag not in ('-r', '-f') or (ROOT / value).is_file(), words
    folders = '|'.join(sorted({name.partition('/')[0] for name in config_names()}))
    named = rf"`((?:{folders})/[a-z0-9_]+)`|find_config\('(\w+/\w+)'\)"
    for pair in re.findall(named, page.read_text()):
        assert ''.join(pair) in config_names()


def test_the_model_zoo_is_up_to_date():
    """If not: python docs/scripts/model_zoo.py."""
    zoo = runpy.run_path(str(ROOT / 'docs/scripts/model_zoo.py'))
    for path, text in zoo['pages']().items():
        assert path.read_text() == text


def test_nothing_leads_to_pypi():
    """Its mmca is another project's, and ours is not there: we install a folder or a wheel."""
    sources = [*(ROOT / 'mmca').rglob('*.py'), *ROOT.glob('*.txt'), *(ROOT / 'docker').iterdir()]
    for path in [*PAGES, *sources, ROOT / 'Makefile']:
        own = r'pip3? (?:install|download)[^\n]*?[ "\'](?:mmca|mmcirculant)(?![\w./-])'
        found = re.findall(own, path.read_text())
        assert not found, (path, found)
