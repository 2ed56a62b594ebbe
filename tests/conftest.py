"""Settings for every test."""

import os

# Tests are many small operators: on a busy machine OpenMP's waiting threads cost far more than
# the second core brings. Set before torch starts, and for the processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch

# Where there is no GPU, Triton interprets its kernels. It reads this when it is imported, which
# other packages may do, when kernels are defined and when they run.
os.environ.setdefault('TRITON_INTERPRET', '0' if torch.cuda.is_available() else '1')
