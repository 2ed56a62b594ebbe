"""The same as `mmca demo`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('demo', sys.argv[1:], prog='python tools/demo.py'))
