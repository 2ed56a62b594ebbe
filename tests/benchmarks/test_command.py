"""The command line: bad input, disagreements, the scripts in tools/."""

import runpy
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.baselines import CirculantBaseline

ROOT = Path(__file__).parents[2]


def test_disagreement_is_not_reported(tmp_path, monkeypatch, capsys):
    original, out = CirculantBaseline.forward, tmp_path / 'out'

    def wrong(*args):
        return original(*args) * (1 + 1e-8)

    monkeypatch.setattr(CirculantBaseline, 'forward', wrong)
    assert main(['layer', '--size', '1x6x7x8', '--rounds', '1', '--out', str(out)]) == 1
    assert not out.exists()
    captured = capsys.readouterr()
    assert 'disagreement: ' in captured.err
    assert len(captured.err.splitlines()) == 1
    assert ' ms' not in captured.out


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (['layer', '--size', '1x6x7'], '--size: write BxHxWxC, such as 1x200x336x64, got 1x6x7'),
        (['op', '--size', '1x0x7x8'], 'got 1x0x7x8'),
        (['variants', '--amp'], '--amp'),
        (['layer', '--rounds', '0'], '--rounds: must be an integer of at least 1, got 0'),
        (['backbone', '--ours', 'ca_pvt_x'], "unknown backbone 'ca_pvt_x': choose from "),
        (['backbone', '--ours', 'pvt_t', '--baselines', 'pvt_t'], 'nothing to compare with'),
        (['backbone', '--shape', '8', '64'], '--shape: must be an integer of at least 32, got 8'),
        (['backbone', '--dtype', 'bfloat16'], 'mmdet_swin_t does not run in bfloat16'),
        (['detector', '--configs', 'absent.py', 'b.py'], 'config not found: absent.py'),
        (['detector', '--amp'], '--amp: detectors need a GPU for it'),
        (['detector', '--configs', 'coco/maskrcnn_ca_deit_t'], 'need a first config with an FPN'),
        (['detector', '--configs', 'coco/maskrcnn_pvt_s', '--baselines'], 'nothing to compare'),
        (['layer', '--device', 'cuda:99'], 'cuda:99: this torch sees'),
        (['layer', '--device', 'gpu'], '--device: write cpu, cuda or cuda:1, got gpu'),
        (['layer', '--out', __file__], 'is a file'),
    ],
)
def test_bad_input_is_one_line(capsys, argv, expected):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert len(error.splitlines()) == 1
    assert expected in error


def test_numerics(capsys):
    """One line per grid; float64 is exact, and float32 is close on a grid this small."""
    assert main(['numerics', '--sides', '3', '5']) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line.startswith('| 5 x 5 | dense | ')
    errors = [float(number) for cell in line.split('|')[3:8] for number in cell.split('/')]
    assert max(errors[:2]) < 1e-12
    assert max(errors) < 1e-4


@pytest.mark.parametrize('words', ['error_study.py', 'benchmark.py numerics'])
def test_tools(monkeypatch, capsys, words):
    argv = [*words.split(), '--sides', '3']
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit, match='0'):
        runpy.run_path(str(ROOT / 'tools' / argv[0]), run_name='__main__')
    assert '| 3 x 3 | dense | ' in capsys.readouterr().out
