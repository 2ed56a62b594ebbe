"""The same as `mmca backbone-table`."""

import sys

from mmca.cli.main import run_command

if __name__ == '__main__':
    sys.exit(run_command('backbone-table', sys.argv[1:], prog='python tools/backbone_table.py'))
