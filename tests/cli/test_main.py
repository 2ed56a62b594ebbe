"""The command itself: help, version, dispatch, and the scripts in tools/."""

import os
import re
import subprocess
import sys

import pytest

from mmca import __version__
from mmca.cli.main import COMMANDS, main, run_command
from tests.helpers import ROOT, error_line, python


def test_help_lists_the_commands_and_imports_nothing_heavy(tmp_path):
    code = """
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO
from mmca.cli.main import COMMANDS, main
for name in COMMANDS:
    with suppress(SystemExit), redirect_stdout(StringIO()) as out:
        main([name, '--help'])
    assert out.getvalue().startswith(f'usage: mmca {name} ')
try:
    main(['--help'])
finally:
    print(sorted({'torch', 'numpy', 'mmengine', 'mmcv', 'rich'} & sys.modules.keys()))
"""
    done = python('-c', code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '[]'
    listed = re.findall(r'^  ([a-z-]+)  +\S', done.stdout, re.MULTILINE)
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
    assert 'mmca train coco/maskrcnn_ca_pvt_s' in done.stdout


@pytest.mark.skipif(not hasattr(os, 'openpty'), reason='needs a terminal')
@pytest.mark.parametrize(('no_color', 'label'), [('', '\x1b[1;31merror:\x1b[0m'), ('1', 'error:')])
def test_a_terminal_shows_errors_in_color_and_short_lines(no_color, label):
    terminal, stderr = os.openpty()
    command = [sys.executable, '-m', 'mmca', 'trian']
    done = subprocess.run(command, stderr=stderr, env={**os.environ, 'NO_COLOR': no_color})
    assert done.returncode == 2
    lines = os.read(terminal, 1000).decode().splitlines()
    assert lines == [f"{label} unknown command 'trian';", '  did you mean train?']


def test_version_and_nothing_and_a_misspelt_command(capsys, fail):
    for argv, code in ((['--version'], 0), ([], 0), (['--verison'], 2)):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == code
    out, err = capsys.readouterr()
    assert out.startswith(f'mmca {__version__}\nusage: mmca COMMAND')
    assert 'unrecognized arguments: --verison' in err
    assert fail('trian') == "error: unknown command 'trian'; did you mean train?\n"
    assert fail('nope') == "error: unknown command 'nope'; run mmca --help for a list\n"


@pytest.mark.parametrize('command', ['train', 'test'])
def test_help_of_a_script_shows_how_to_call_it(command, capsys):
    with pytest.raises(SystemExit):
        run_command(command, ['--help'], prog=f'python tools/{command}.py')
    out = capsys.readouterr().out
    assert f'python tools/{command}.py coco/maskrcnn_ca_pvt_s' in out
    assert '--cfg-options' in out
    assert 'torchrun --nproc_per_node 8 -m mmca' in out


def test_an_error_is_one_line_and_a_flag_shows_where(fail, tmp_path):
    done = python('-m', 'mmca', 'train', 'absent.py', cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == 'error: config not found: absent.py (mmca config --list)\n'
    (tmp_path / 'c.py').write_text("default_scope = 'mmdet'\n")
    assert fail('flops', tmp_path / 'c.py').endswith('(--traceback shows where)\n')
    with pytest.raises(AttributeError):
        main(['flops', str(tmp_path / 'c.py'), '--traceback'])


def test_a_reader_that_stops_early_is_no_error():
    command = f'{sys.executable} -m mmca config --list | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ''
    assert done.stdout.splitlines()[-1] in ('0', '1', '141')  # rich exits with 1


@pytest.mark.parametrize(
    'command', ['train c', 'check c', 'predict c c image --out o', 'plot dir', 'config --data dir']
)
def test_without_packages_one_line_tells_what_to_install(command):
    code = f"""
import sys
for name in ('numpy', 'torch', 'mmengine', 'mmcv', 'matplotlib'):
    sys.modules[name] = None
from mmca.cli.main import main
sys.exit(main({command.split()!r}))
"""
    done = python('-c', code)
    assert done.returncode == 2
    assert re.search('is not installed; run( in the mmca checkout)?: ', error_line(done.stderr))


def test_called_from_a_notebook_of_another_environment():
    env = {'MPLBACKEND': 'module://absent.backend'}
    done = python('-m', 'mmca', 'plot', 'absent', env=env)
    assert 'no training log in absent' in error_line(done.stderr)
