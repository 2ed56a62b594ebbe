"""Train a detector, a segmentor or a classifier: python tools/train.py CONFIG [flags]."""

import sys

from launcher import main

if __name__ == '__main__':
    sys.exit(main('train', sys.argv[1:]))
