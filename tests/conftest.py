"""Settings for every test."""

import os

# Tests are many small operators: on a busy machine OpenMP's waiting threads cost far more than
# the second core brings. Set before torch starts, and for the processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')
