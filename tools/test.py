"""The same as `mmca test`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('test', sys.argv[1:], prog='python tools/test.py'))
