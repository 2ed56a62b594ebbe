"""The switch between the two forms of circulant attention."""

import subprocess
import sys

import pytest
import torch

from mmca.errors import InputError
from mmca.ops import choose_backend, circulant_attention, use_backend


def test_the_context_decides_and_ends():
    assert choose_backend() == 'fused'
    with use_backend('eager'):
        assert choose_backend() == 'eager'
    assert choose_backend() == 'fused'


def test_eager_has_gradients_of_second_order():
    q, k, v = torch.randn(3, 1, 6, 2, dtype=torch.float64).requires_grad_()
    with use_backend('eager'):
        assert torch.autograd.gradgradcheck(lambda *x: circulant_attention(*x, (2, 3)), (q, k, v))


def test_the_environment_decides():
    code = 'from mmca.ops import choose_backend; print(choose_backend())'
    command = ['env', 'MMCA_BACKEND=eager', sys.executable, '-c', code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == 'eager\n'


def test_unknown_names_are_refused():
    x = torch.zeros(1, 6, 2)
    with use_backend('cpu'), pytest.raises(InputError, match="unknown backend 'cpu'"):
        circulant_attention(x, x, x, (2, 3))
