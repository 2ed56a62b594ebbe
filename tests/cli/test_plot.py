"""mmca plot: curves from the logs of work dirs."""

import json

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def work_dirs(tmp_path, monkeypatch):
    """Two trainings of 100 iterations, a and b, with one validation each."""
    monkeypatch.chdir(tmp_path)
    for name, best in (('a', 30.0), ('b', 40.0)):
        file = tmp_path / name / '20260101_000000/vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        lines = [{'loss': 1 / i, 'lr': 0.1, 'iter': i, 'step': i} for i in range(1, 101)]
        lines.append({'mIoU': best, 'aAcc': 50.0, 'step': 100})
        file.write_text('\n'.join(map(json.dumps, lines)))


def test_curves(out, tmp_path):
    assert out('plot', 'a', 'b').splitlines() == [
        'a: 100 iterations, final loss 0.01, mIoU 30',
        'b: 100 iterations, final loss 0.01, mIoU 40',
        'wrote curves.png',
    ]
    assert Image.open('curves.png').size == (1320, 440)  # two panels side by side
    out('plot', 'a', '--keys', 'lr', 'aAcc', 'loss', '--out', 'c.svg')
    assert (tmp_path / 'c.svg').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        ('absent', 'no training log in absent'),
        ('a --keys AP', 'no log has AP; choose --keys from aAcc, iter, loss, lr, mIoU, step'),
        ('a --out c.xyz', 'cannot write c.xyz'),
        ('a --out absent/c.png', 'cannot write absent/c.png'),
    ],
)
def test_bad_input(argv, expected, fail):
    assert expected in fail('plot', *argv.split())
