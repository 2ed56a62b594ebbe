"""`python -m mmca` is the `mmca` command."""

import sys

from mmca.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
