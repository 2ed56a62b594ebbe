"""Test a detector, a segmentor or a classifier: python tools/test.py CONFIG CHECKPOINT [flags]."""

import sys

from launcher import main

if __name__ == '__main__':
    sys.exit(main('test', sys.argv[1:]))
