"""The same as `mmca train`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('train', sys.argv[1:], prog='python tools/train.py'))
