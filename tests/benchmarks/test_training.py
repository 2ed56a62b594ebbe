"""The study of training in several precisions."""

import json

import pytest
import torch

from benchmarks import training
from benchmarks.__main__ import main
from tests.helpers import needs_new_torch
from tests.tiny import DEIT

pytestmark = needs_new_torch

ARGV = ('training', '--shape', '64', '96', '--steps', '24', '--threads', '1')


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    from mmca.backbones import CADeiT

    monkeypatch.setattr(training, 'build_backbone', lambda name: CADeiT(DEIT, drop_path_rate=0.0))
    monkeypatch.setattr(training, 'LEARNING_RATE', 1e-2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_every_row_is_reported(tmp_path, capsys):
    assert main([*ARGV, '--out', str(tmp_path)]) == 0, capsys.readouterr().err
    rows = json.loads((tmp_path / 'training.json').read_text())['rows']
    assert list(rows) == list(training.VARIANTS)
    for row in rows.values():
        assert len(row['losses']) == 24
        assert sum(row['losses'][-4:]) < sum(row['losses'][:4])
    assert rows['float32, recomputed']['losses'] == pytest.approx(rows['float32']['losses'])
    assert rows['float32, wrapped']['losses'] == pytest.approx(rows['float32']['losses'])
    assert rows['bfloat16']['losses'] != rows['float32']['losses']
