"""Agreement, times, memory and ratios of workloads whose figures are known."""

import pytest
import torch

from benchmarks import baselines
from benchmarks.agreement import DisagreementError, check, relative_error
from benchmarks.cases import Case, Workload
from benchmarks.layers import op_cases
from benchmarks.measurement import MODES, measure
from benchmarks.memory import measure_memory, memory_of
from benchmarks.report import ratios


def test_wrong_gradients_disagree(monkeypatch, parse):
    right = baselines.circulant_attention

    def wrong(*args, **grid):
        out = right(*args, **grid)
        return out + 0.01 * (out - out.detach())

    monkeypatch.setattr(baselines, 'circulant_attention', wrong)
    args = parse('op', '--size', '1x3x4x8')
    case = op_cases(args)[0]
    with pytest.raises(DisagreementError, match='gradient of'):
        check(case, args)


def test_nan_is_an_error():
    one = torch.ones(2, dtype=torch.float64)
    assert relative_error(one, one) == 0
    for bad in (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.inf]), torch.ones(3)):
        assert relative_error(bad, one) == float('inf')


def test_memory_of_a_known_workload(parse):
    """16 Mi temporary numbers, and exp keeps its output of 1000."""

    def call(x):
        return torch.ones(16 << 20).sum() + x.exp()

    workload, args = Workload(call, (torch.ones(1000, requires_grad=True),)), parse('op')
    assert 60 << 20 <= measure_memory(workload, 'forward', args)['peak_bytes'] < 100 << 20
    assert measure_memory(workload, 'step', args)['kept_bytes'] == 4000


def test_memory_in_a_new_process(parse):
    name = 'circulant_self_attention 1x4x4x8'
    found = memory_of(name, 'ours', 'step', parse('op', '--size', '1x4x4x8'))
    # The spectrum of x (3 complex columns of 4), the kernels, the scaled weight.
    assert found['kept_bytes'] == 4 * (8 * 4 * 3 * 2 + 8 * 16 + 24 * 8)


def test_ratios_are_of_the_same_round():
    """Everything doubles in the second round, the ratio does not."""
    seconds = {'ours': [1.0, 2.0], 'baseline': [4.0, 8.0]}
    results = {name: {mode: {'seconds': s} for mode in MODES} for name, s in seconds.items()}
    results['ours']['step']['peak_bytes'], results['baseline']['step']['peak_bytes'] = 30, 120
    (row,) = ratios(Case('case', {}, ('ours',)), results)
    assert row['forward'] == {'median': 0.25, 'low': 0.25, 'high': 0.25}
    assert row['step_peak'] == 0.25
    assert row['forward_peak'] is row['kept'] is None


def test_every_workload_runs_in_every_place(parse):
    """In three rounds, three workloads run first, second and third once each, in both modes."""
    order = []

    def workload(name):
        x = torch.ones(1, requires_grad=True)
        return Workload(lambda x: order.append(name) or x * 2, (x,))

    workloads = {name: workload(name) for name in 'abc'}
    measure(workloads, parse('op', '--rounds', '3', '--warmup', '1'))
    rounds = [''.join(order[i : i + 3]) for i in range(6, 24, 3)]  # after 2 x 3 of warm-up
    assert rounds[::2] == rounds[1::2] == ['abc', 'bca', 'cab']
