"""The same as `mmca make-mini`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('make-mini', sys.argv[1:], prog='python tools/make_mini.py'))
