"""The same as `mmca inspect`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('inspect', sys.argv[1:], prog='python tools/inspect_checkpoint.py'))
