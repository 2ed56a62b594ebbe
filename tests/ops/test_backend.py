"""The one place that chooses an implementation."""

import logging

import pytest
import torch

from mmca.errors import InputError
from mmca.ops import backend, choose_backend, mlp, set_backend, use_backend


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.delenv('MMCA_BACKEND', raising=False)
    monkeypatch.setattr(backend, '_logged', set())
    yield
    set_backend(None)


def test_the_device_decides_by_default():
    assert choose_backend(torch.zeros(1)) == 'cpu'
    assert choose_backend(torch.zeros(1, device='meta')) == 'eager'


def test_the_environment_and_then_the_call_decide(monkeypatch):
    monkeypatch.setenv('MMCA_BACKEND', 'eager')
    assert choose_backend(torch.zeros(1)) == 'eager'
    set_backend('cpu')
    assert choose_backend(torch.zeros(1)) == 'cpu'
    with use_backend('eager'):
        assert choose_backend(torch.zeros(1)) == 'eager'
    assert choose_backend(torch.zeros(1)) == 'cpu'


def test_the_choice_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, logger='mmca'):
        for _ in range(3):
            choose_backend(torch.zeros(1))
        set_backend('eager')
        for _ in range(3):
            choose_backend(torch.zeros(1))
    assert [record.getMessage() for record in caplog.records] == [
        'backend of the ops on cpu: cpu (default)',
        'backend of the ops on cpu: eager (set_backend)',
    ]


def test_requests_that_cannot_be_met_are_refused(monkeypatch):
    with pytest.raises(InputError, match="unknown backend 'cuda'; known are eager, cpu, triton"):
        set_backend('cuda')
    monkeypatch.setenv('MMCA_BACKEND', 'fast')
    with pytest.raises(InputError, match="MMCA_BACKEND: unknown backend 'fast'"):
        mlp(*(torch.zeros(size) for size in ((1, 2, 3), (4, 3), (4,), (3, 4), (3,))))
    monkeypatch.setenv('MMCA_BACKEND', 'triton')
    monkeypatch.setattr(backend, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='needs Triton: pip install triton'):
        choose_backend(torch.zeros(1))


def test_tracing_takes_the_eager_form():
    torch._dynamo.reset()
    seen = []

    @torch.compile(backend='eager', fullgraph=True)
    def traced(x):
        return x + 1 if choose_backend(x) == 'eager' else x + 2

    seen.append(traced(torch.zeros(1)).item())
    assert seen == [1]
