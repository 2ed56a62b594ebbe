"""Downloads in tests go to a cache of their own."""

import pytest

from tests.checkpoint.server import serving


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of downloads, an empty one."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.delenv('MMCA_WEIGHTS_MIRROR', raising=False)
    return tmp_path / 'torch/hub/checkpoints'


@pytest.fixture
def server():
    with serving() as server:
        yield server
