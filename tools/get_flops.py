"""The same as `mmca flops`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('flops', sys.argv[1:], prog='python tools/get_flops.py'))
