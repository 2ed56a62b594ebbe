"""The same as `mmca softmax-start`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('softmax-start', sys.argv[1:], prog='python tools/softmax_start.py'))
