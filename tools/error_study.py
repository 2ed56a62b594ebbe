"""`python -m benchmarks numerics` from any folder: python tools/error_study.py [--sides N ...]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['numerics', *sys.argv[1:]]))
