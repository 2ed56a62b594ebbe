"""Every suite end to end: which workloads there are, and that those that must agree do."""

from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType

from benchmarks import layers, variants
from benchmarks.profiling import sum_by_kind
from mmca.layers import registered_attentions

ATTENTIONS = {'baseline', *registered_attentions()}
UNCOMPILED = ('eager', 'bfloat16', 'float16')
MMDET = {'mmdet_reduction', 'mmdet_window', 'mmdet_shifted'}


def pairs(case):
    return {(row['ours'], row['baseline']) for row in case['ratios']}


def test_op(report):
    cases = report('op', '--size', '1x5x6x8', '--size', '2x28x28x16')['cases']
    assert len(cases) == 6
    for case in cases:
        keys = case['name'].startswith('key_logits')
        assert pairs(case) == {('with keys', 'without') if keys else ('ours', 'baseline')}
        assert {check['dtype'] for check in case['checks']} == {'float32', 'float64'}
        assert all(check['error'] < 1e-3 for check in case['checks'])


@pytest.mark.parametrize('options', ['', '--dtype bfloat16', '--dtype float64', '--amp'])
def test_layer(report, options):
    (case,) = report('layer', '--size', '1x6x7x8', *options.split())['cases']
    skipped = {'mmdet_shifted'} if 'bfloat16' in options else set()
    assert set(case['results']) == (ATTENTIONS | MMDET) - skipped
    assert pairs(case) == {('circulant', name) for name in case['results'] if name != 'circulant'}
    for name in ('circulant', 'baseline'):
        assert case['results'][name]['parameters'] == 5 * 8 * 8 + 2 * 8
    assert 'float64' in {check['dtype'] for check in case['checks']}


def test_passes(report):
    (case,) = report('passes', '--size', '2x6x7x8')['cases']
    parts = ('circulant', 'transform and back', 'product')
    assert pairs(case) == {(name, 'copy') for name in parts}


def test_sizes(report, parse):
    argv = ('sizes', '--count', '3', '--side', '9', '--channels', '4')
    (case,) = report(*argv)['cases']
    assert pairs(case) == {('various', 'one size')}
    (case,) = layers.size_cases(parse(*argv))
    grids = {name: set(build().call.grids) for name, build in case.builders.items()}
    assert grids['one size'] == {(9, 9)}
    assert len(grids['various']) == 3


def test_variants(report, monkeypatch):
    monkeypatch.setattr(variants, 'VARIANTS', {k: variants.VARIANTS[k] for k in UNCOMPILED})
    (case,) = report('variants', '--backbone', 'ca_pvt_t', '--shape', '32', '64')['cases']
    assert case['images'] == 1
    assert pairs(case) == {('bfloat16', 'eager')}
    assert case['skipped'] == {'float16': 'needs a GPU'}


def test_a_kernel_is_profiled_once():
    def event(name, device_type):
        return SimpleNamespace(name=name, device_type=device_type, self_device_time_total=5e3)

    events = [event('aten::bmm', DeviceType.CPU), event('sgemm_kernel', DeviceType.CUDA)]
    assert sum_by_kind(events, gpu=True) == {'products': 1.0}


def test_profile_separates_transforms_from_their_copies(report):
    (case,) = report('layer', '--size', '1x30x34x4', '--profile')['cases']
    assert 'profile' not in case['results']['baseline']
    for kinds in case['results']['circulant']['profile'].values():
        assert {'products', 'transforms', 'copies in transforms', 'all else'} <= set(kinds)
        assert all(milliseconds >= 0 for milliseconds in kinds.values())


def test_backbone(report):
    argv = ['--ours', 'deit_t@K', 'pvt_s', '--baselines', 'mmdet_pvt_s', '--shape', '32', '48']
    (case,) = report('backbone', *argv)['cases']
    assert pairs(case) == {('deit_t@K', 'mmdet_pvt_s'), ('pvt_s', 'mmdet_pvt_s')}
    assert {check['ours'] for check in case['checks']} == {'pvt_s'}
    parameters = {name: result['parameters'] for name, result in case['results'].items()}
    assert parameters['pvt_s'] == parameters['mmdet_pvt_s'] != parameters['deit_t@K']


def test_detector(report):
    argv = ['--configs', 'mini/maskrcnn_ca_pvt_mini', '--baselines', 'resnet50']
    (case,) = report('detector', *argv, '--shape', '64', '96')['cases']
    assert pairs(case) == {('maskrcnn_ca_pvt_mini', 'resnet50')}
    sizes = {name: result['parameters'] for name, result in case['results'].items()}
    assert sizes['resnet50'] > 2e7 > sizes['maskrcnn_ca_pvt_mini'] > 0
