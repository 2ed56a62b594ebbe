"""Malformed data and configs: one line and exit code 2; unusual ones pass in silence."""

import pytest

from tests.stress import forked
from tests.stress.good_data import write_config, write_good
from tests.stress.malformed import CONFIGS, ERRORS, FINE

# A sample of the cases in the training data, and, for `make stress`, all of them in both splits.
everything = pytest.param('train', 1, marks=pytest.mark.stress)
in_test_data = pytest.param('test', 1, marks=pytest.mark.stress)
amounts = pytest.mark.parametrize(('split', 'step'), [('train', 9), everything, in_test_data])


@pytest.fixture
def train(tmp_path_factory):
    """Train on a data set with a damaged split."""

    def start(kind, change=lambda files: None, split='train', text=''):
        root = tmp_path_factory.mktemp('case')
        change(write_good(root, kind)[split])
        config = write_config(root, kind)
        config.with_name('case.py').write_text(f'_base_ = {config.name!r}\n{text}\n')
        return forked.run(lambda: forked.mmca(['train', str(root / 'case.py')]), root)

    return start


def failed(outcomes, expected):
    """Name -> end of the output, of the outcomes that are not as expected."""
    return {name: f'{o.code} {o.text[-1500:]}' for name, o in outcomes.items() if not expected(o)}


def passed(outcome):
    return outcome.code == 0 and '\nwarning: ' not in f'\n{outcome.text}'


@amounts
@pytest.mark.parametrize('kind', ERRORS)
def test_malformed_data_are_refused(kind, split, step, train):
    cases = [*ERRORS[kind].items()][::step]
    outcomes = {name: train(kind, change, split) for name, change in cases}
    assert failed(outcomes, lambda outcome: outcome.refused) == {}


@amounts
@pytest.mark.parametrize('kind', FINE)
def test_unusual_data_pass(kind, split, step, train):
    cases = [*FINE[kind].items()][::step]
    outcomes = {name: train(kind, change, split) for name, change in cases}
    assert failed(outcomes, passed) == {}


@pytest.mark.parametrize('step', [8, pytest.param(1, marks=pytest.mark.stress)])
def test_malformed_configs_are_refused(step, train):
    outcomes = {text: train('coco', text=text) for text in CONFIGS[::step]}
    assert failed(outcomes, lambda outcome: outcome.refused) == {}
