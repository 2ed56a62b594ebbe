"""For a machine with a GPU: pytest -m gpu. MMCA_TEST_DEVICE=cpu rehearses the same tests."""

import os
from pathlib import Path

import pytest
import torch

DEVICE = os.environ.get('MMCA_TEST_DEVICE', 'cuda')


def pytest_collection_modifyitems(items):
    missing = DEVICE == 'cuda' and not torch.cuda.is_available()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if missing:
                item.add_marker(pytest.mark.skip(reason='needs a GPU'))


@pytest.fixture
def device():
    return torch.device(DEVICE)


@pytest.fixture(autouse=True)
def full_float32():
    """TF32 would cost three digits."""
    modules = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [module.allow_tf32 for module in modules]
    for module in modules:
        module.allow_tf32 = False
    yield
    for module, value in zip(modules, before, strict=True):
        module.allow_tf32 = value  # pytest's monkeypatch would delete it: not in their __dict__
