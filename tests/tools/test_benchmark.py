"""tools/benchmark.py: what it reports and when it refuses to; never how fast anything is."""

import contextlib
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'tools'))
benchmark = importlib.import_module('benchmark')
benchmark_report = importlib.import_module('benchmark_report')
benchmark_sides = importlib.import_module('benchmark_sides')
peers = importlib.import_module('peers')

QUICK = ('--rounds', '2', '--warmup', '1', '--no-memory')
LAYERS = {
    'ours',
    'straightforward',
    'softmax',
    'linear',
    'reduction',
    'windows',
    'shifted',
}


@pytest.fixture
def report(tmp_path, capsys):
    """Run a command; returns what its JSON file holds."""

    def run(command, *argv):
        code = benchmark.main([command, *QUICK, '--out', str(tmp_path), *argv])
        assert code == 0, capsys.readouterr().err
        assert (tmp_path / f'{command}.png').stat().st_size > 1000
        found = json.loads((tmp_path / f'{command}.json').read_text())
        assert found['command'] == command
        assert found['argv'][0] == command
        assert {'date', 'machine', 'device', 'dtype', 'threads', 'versions'} <= set(
            found['environment']
        )
        for case in found['cases']:
            for side in case['sides'].values():
                for mode in ('forward', 'step'):
                    assert len(side[mode]['seconds']) == 2
                    assert side[mode]['low'] <= side[mode]['median'] <= side[mode]['high']
        return found

    return run


def resolved(*argv):
    args = benchmark._parser().parse_args(argv)
    benchmark._resolve(args)
    return args


def pairs(case):
    return {(row['ours'], row['peer']) for row in case['ratios']}


def test_profile_tells_transforms_from_their_copies(report):
    (case,) = report('layer', '--size', '1x30x34x4', '--profile')['cases']
    assert 'profile' not in case['sides']['straightforward']
    for kinds in case['sides']['ours']['profile'].values():
        assert {'products', 'transforms', 'copies in transforms', 'all else'} <= set(kinds)
        assert all(milliseconds >= 0 for milliseconds in kinds.values())


def test_op(report):
    """With a hidden layer long enough for the MLP's pieces, the path that the timing takes."""
    cases = report('op', '--size', '1x5x6x8', '--size', '2x128x128x16')['cases']
    names = {case['name'].split()[0] for case in cases}
    assert len(cases) == 2 * len(names) == 12
    for case in cases:
        assert pairs(case) == {('ours', 'plain')}
        assert {check['dtype'] for check in case['checks']} == {'float32', 'float64'}
        assert all(check['error'] < 1e-3 for check in case['checks'])


def test_layer(report):
    (case,) = report('layer', '--size', '2x6x7x8')['cases']
    assert set(case['sides']) == LAYERS
    assert pairs(case) == {('ours', peer) for peer in LAYERS - {'ours'}}
    assert case['sides']['ours']['parameters'] == 5 * 8 * 8 + 2 * 8
    assert case['sides']['straightforward']['parameters'] == 5 * 8 * 8 + 2 * 8
    errors = {check['dtype']: check['error'] for check in case['checks']}
    assert errors['float64'] < 1e-9
    assert errors['float32'] < 1e-3


def test_what_is_left_out_is_said(report, monkeypatch, capsys):
    monkeypatch.setattr(peers, 'find_spec', lambda name: None)
    (case,) = report('layer', '--size', '1x6x7x8', '--softmax-tokens', '41')['cases']
    assert set(case['sides']) == {'ours', 'straightforward', 'linear'}
    assert set(case['skipped']) == LAYERS - set(case['sides'])
    assert 'no softmax: 42 tokens are more than' in capsys.readouterr().out


@pytest.mark.parametrize('options', [['--dtype', 'bfloat16'], ['--dtype', 'float64'], ['--amp']])
def test_other_precisions(report, options):
    (case,) = report('layer', '--size', '1x6x7x8', *options)['cases']
    assert set(case['sides']) == LAYERS - ({'shifted'} if 'bfloat16' in options else set())


def test_backbone(report, capsys):
    argv = ['--ours', 'cadeit_t', 'pvt_s', '--peers', 'mmdet_pvt_s', '--shape', '32', '48']
    (case,) = report('backbone', *argv, '--import-rounds', '0')['cases']
    assert pairs(case) == {('cadeit_t', 'mmdet_pvt_s'), ('pvt_s', 'mmdet_pvt_s')}
    assert {(check['ours'], check['peer']) for check in case['checks']} == {
        ('pvt_s', 'mmdet_pvt_s')
    }
    parameters = {name: side['parameters'] for name, side in case['sides'].items()}
    assert parameters['pvt_s'] == parameters['mmdet_pvt_s'] != parameters['cadeit_t']


def test_imports_and_builds(report, monkeypatch):
    def run(command, **kwargs):
        """In this process, where everything is imported already."""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(command[2], {})
        return subprocess.CompletedProcess(command, 0, 'a line of mmcv\n' + out.getvalue())

    monkeypatch.setattr(subprocess, 'run', run)
    argv = ['--ours', 'cadeit_t', '--peers', 'resnet50', '--shape', '32', '32']
    found = report('backbone', *argv, '--import-rounds', '2')
    assert set(found['imports']) == {'mmca.backbones', 'mmdet.models.backbones'}
    assert set(found['builds']) == {'cadeit_t', 'resnet50'}
    for row in (*found['imports'].values(), *found['builds'].values()):
        assert len(row['seconds']) == 2
        assert row['low'] <= row['median'] <= row['high']


@pytest.mark.parametrize('name', ['mmdet_swin_s', 'mmdet_pvt_l'])
def test_mmdets_backbones_have_the_parameters_of_ours(name):
    """The agreement of two deep ones is left to whoever times them."""
    ours = peers.MMDET[name][2]
    sizes = {sum(p.numel() for p in peers.build_backbone(n).parameters()) for n in (ours, name)}
    assert len(sizes) == 1


def test_detector(report, tmp_path):
    base = ROOT / 'configs/mini/maskrcnn_ca_pvt_mini.py'
    softmax = tmp_path / 'softmax.py'
    softmax.write_text(f"_base_ = {str(base)!r}\nmodel = dict(backbone=dict(attn='S'))\n")
    found = report('detector', '--configs', str(base), str(softmax), '--shape', '64', '96')
    (case,) = found['cases']
    assert pairs(case) == {('maskrcnn_ca_pvt_mini', 'softmax')}
    sizes = {name: side['parameters'] for name, side in case['sides'].items()}
    assert sizes['softmax'] != sizes['maskrcnn_ca_pvt_mini'] > 0


def test_scaling(report):
    found = report('scaling', '--sides', '4', '6', '9', '--channels', '8', '--softmax-tokens', '40')
    assert [case['tokens'] for case in found['cases']] == [16, 36, 81]
    assert set(found['slopes']) == {'ours', 'straightforward', 'softmax', 'linear'}
    assert 'softmax' in found['cases'][2]['skipped']


def test_one_size_has_no_slope(report):
    assert 'slopes' not in report('scaling', '--sides', '4', '--channels', '8')


@pytest.mark.parametrize('command', [['layer', '--size', '1x6x7x8'], ['scaling', '--sides', '5']])
def test_disagreement_is_not_reported(tmp_path, monkeypatch, capsys, command):
    original = peers.StraightforwardCirculant.forward
    monkeypatch.setattr(
        peers.StraightforwardCirculant,
        'forward',
        lambda self, x, hw_shape: original(self, x, hw_shape) * (1 + 1e-8),
    )
    out = tmp_path / 'out'
    assert benchmark.main([*command, *QUICK, '--out', str(out)]) == 1
    assert not out.exists()
    captured = capsys.readouterr()
    assert 'disagreement: ' in captured.err
    assert len(captured.err.splitlines()) == 1
    assert ' ms' not in captured.out


def test_wrong_gradients_disagree(monkeypatch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * 1.01

    plain = peers.plain_layer_norm
    monkeypatch.setattr(peers, 'plain_layer_norm', lambda x, w, b: Wrong.apply(plain(x, w, b)))
    args = resolved('op', '--size', '1x3x4x8')
    case = next(case for case in peers.op_cases(args) if case.name.startswith('layer_norm'))
    with pytest.raises(benchmark_sides.DisagreementError, match='gradient of'):
        benchmark_sides.check(case, args)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nan_is_an_error(value):
    one = torch.ones(2, dtype=torch.float64)
    bad = torch.tensor([1.0, value])
    assert benchmark_sides._error(one, one) == 0
    assert benchmark_sides._error(bad, one) == float('inf')
    assert benchmark_sides._error(one, torch.ones(3)) == float('inf')


def test_memory_of_a_known_side():
    """16 Mi numbers are needed on the way, and exp keeps its output of 1000."""

    def call(x):
        return torch.ones(16 << 20).sum() + x.exp()

    def build():
        return peers.Side('side', call, (torch.ones(1000, requires_grad=True),))

    cases = [peers.Case('case', {'side': build}, ())]
    args = resolved('op')
    forward = benchmark_sides.measure_memory(cases, 'case', 'side', 'forward', args)
    assert 60 << 20 <= forward['peak_bytes'] < 100 << 20
    step = benchmark_sides.measure_memory(cases, 'case', 'side', 'step', args)
    assert step['kept_bytes'] == 4000


def test_memory_in_a_process_of_its_own(capsys, monkeypatch):
    argv = ['op', '--size', '1x3x4x8', *QUICK]
    found = benchmark._memory_of('layer_norm 1x3x4x8', 'plain', 'step', argv)
    assert found['kept_bytes'] == 2 * 4 * 12  # mean and inverse deviation of 12 tokens
    monkeypatch.setattr(sys, 'executable', 'false')
    assert benchmark._memory_of('layer_norm 1x3x4x8', 'plain', 'step', argv) == {'peak_bytes': None}
    assert 'no memory figures of plain, step: exit code 1' in capsys.readouterr().out


def test_ratios_are_of_the_same_round():
    """Everything doubles in the second round, the ratio does not."""
    case = peers.Case('case', {}, ('ours',))
    modes = {'ours': [1.0, 2.0], 'peer': [4.0, 8.0]}
    records = {
        name: {mode: {'seconds': s} for mode in benchmark_sides.MODES} for name, s in modes.items()
    }
    records['ours']['step']['peak_bytes'], records['peer']['step']['peak_bytes'] = 30, 120
    (row,) = benchmark_report.ratios(case, records)
    assert row['forward'] == {'median': 0.25, 'low': 0.25, 'high': 0.25}
    assert row['step_peak'] == 0.25
    assert row['forward_peak'] is row['kept'] is None


def test_summary():
    assert benchmark_sides.summary([3, 1, 2]) == {'median': 2, 'low': 1, 'high': 3}
    assert benchmark_sides.summary(range(101)) == {'median': 50, 'low': 10, 'high': 90}


def test_every_side_is_run_in_every_place():
    """In three rounds three sides come first, second and third once each, in both modes."""
    order = []

    def side(name):
        x = torch.ones(1, requires_grad=True)
        return peers.Side(name, lambda x: order.append(name) or x * 2, (x,))

    sides = {name: side(name) for name in 'abc'}
    benchmark_sides.measure(sides, resolved('op', '--rounds', '3', '--warmup', '1'))
    rounds = [''.join(order[i : i + 3]) for i in range(6, 24, 3)]  # after 2 x 3 of warm-up
    assert rounds[::2] == rounds[1::2] == ['abc', 'bca', 'cab']


def test_slope_of_known_times():
    records = [
        {'tokens': n, 'sides': {'ours': {m: {'median': n**1.5} for m in benchmark_sides.MODES}}}
        for n in (4, 9, 100)
    ]
    assert benchmark_report.slopes(records)['ours']['step'] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (['layer', '--size', '1x6x7'], '--size 1x6x7: write BxHxWxC'),
        (['op', '--size', '1x0x7x8'], '--size 1x0x7x8'),
        (['layer', '--rounds', '0'], '--rounds 0: must be at least 1'),
        (['backbone', '--ours', 'capvt_x'], "unknown backbone 'capvt_x'; known are capvt_t, "),
        (['backbone', '--ours', 'pvt_t', '--peers', 'pvt_t'], 'nothing to compare with'),
        (['backbone', '--shape', '8', '64'], '--shape 8 64'),
        (['backbone', '--dtype', 'bfloat16'], 'mmdet_swin_t does not run in bfloat16'),
        (['detector', '--configs', 'absent.py', 'b.py'], 'config not found: absent.py'),
        (['detector', '--dtype', 'bfloat16'], '--dtype bfloat16'),
        (['scaling', '--sides', '0'], '--sides 0'),
        (['layer', '--device', 'cuda:99'], '--device cuda:99'),
        (['layer', '--device', 'gpu'], '--device gpu'),
        (['layer', '--out', __file__], 'is a file'),
    ],
)
def test_bad_input_is_one_line(capsys, argv, expected):
    assert benchmark.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert len(error.splitlines()) == 1
    assert expected in error
