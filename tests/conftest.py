"""Settings for every test."""

import gc
import itertools
import os

# Tests are many small operators: on a busy machine OpenMP's waiting threads cost far more than
# the second core brings. Set before torch starts, and for the processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest


@pytest.fixture(autouse=True, scope='module')
def imports_are_not_garbage():
    """A dataset collects garbage when it is built: 0.4 s with all of torch on the heap."""
    gc.freeze()


@pytest.fixture(scope='module')
def det(tmp_path_factory):
    """A tiny detector with random weights, see `tests.inference.trained`."""
    from tests.inference.trained import tiny_detector

    return tiny_detector(tmp_path_factory.mktemp('det'))


@pytest.fixture(scope='module')
def seg(tmp_path_factory):
    """A tiny segmentor with random weights."""
    from tests.inference.trained import tiny_segmentor

    return tiny_segmentor(tmp_path_factory.mktemp('seg'))


@pytest.fixture(scope='module')
def detector(det):
    from mmca.inference import Predictor

    return Predictor(det.config, det.checkpoint, 'cpu')


@pytest.fixture(scope='module')
def segmentor(seg):
    from mmca.inference import Predictor

    return Predictor(seg.config, seg.checkpoint, 'cpu')


@pytest.fixture(scope='session')
def caches(tmp_path_factory):
    """Folders that do not exist yet; making one for each test would take 10 ms."""
    folder = tmp_path_factory.mktemp('caches')
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_cache(caches, monkeypatch):
    """Findings on files are remembered for one test alone."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(next(caches)))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of downloaded weights, an empty one."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.delenv('MMCA_WEIGHTS_MIRROR', raising=False)
    return tmp_path / 'torch/hub/checkpoints'


@pytest.fixture
def server():
    """A server of files on this machine, see `tests.server`."""
    from tests.server import serving

    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def environment_as_it_was():
    """A command sets these for the rest of its process, in which more tests follow."""
    yield
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'MMCA_TRACEBACK'):
        os.environ.pop(name, None)
