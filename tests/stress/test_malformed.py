"""Malformed data and configs: one line and exit code 2, or a warning; what is unusual passes."""

import pytest

from tests.stress import forked
from tests.stress.good_data import KINDS, write_config, write_good
from tests.stress.malformed import CONFIGS, ERRORS, FINE


@pytest.fixture
def train(tmp_path_factory):
    """Train on a data set with a damaged split."""

    def start(kind, change, split='train', text=''):
        root = tmp_path_factory.mktemp('case')
        change(write_good(root, kind)[split])
        config = write_config(root, kind)
        config.with_name('case.py').write_text(f"_base_ = 'tiny.py'\n{text}\n")
        return forked.run(lambda: forked.mmca(['train', str(root / 'case.py')]), root)

    return start


def failed(outcomes, expected):
    """Name -> end of the output, of the outcomes that are not as expected."""
    return {name: f'{o.code} {o.text[-1500:]}' for name, o in outcomes.items() if not expected(o)}


def report(tally, what, outcomes, expected):
    wrong = failed(outcomes, expected)
    print(*(f'--- {name}: {text}' for name, text in wrong.items()), sep='\n')
    tally(what, len(outcomes), len(outcomes) - len(wrong))


def warnings_of(outcome):
    return [line for line in outcome.text.splitlines() if line.startswith('warning: ')]


@pytest.mark.parametrize('kind', KINDS)
def test_a_sample(kind, train):
    errors = {name: train(kind, change) for name, change in [*ERRORS[kind].items()][::9]}
    assert failed(errors, lambda outcome: outcome.refused) == {}
    fine = {name: train(kind, change) for name, change in [*FINE[kind].items()][::8]}
    assert failed(fine, lambda outcome: outcome.code == 0 and not warnings_of(outcome)) == {}


def test_a_sample_of_configs(train):
    outcomes = {text: train('coco', lambda files: None, text=text) for text in CONFIGS[::8]}
    assert failed(outcomes, lambda outcome: outcome.refused) == {}


@pytest.mark.stress
@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('kind', KINDS)
def test_malformed_data(kind, split, train, tally):
    outcomes = {name: train(kind, change, split) for name, change in ERRORS[kind].items()}
    report(tally, f'malformed {kind} data, {split}', outcomes, lambda outcome: outcome.refused)


@pytest.mark.stress
@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('kind', KINDS)
def test_unusual_data_pass(kind, split, train, tally):
    outcomes = {name: train(kind, change, split) for name, change in FINE[kind].items()}
    what = f'unusual {kind} data, {split}'
    report(tally, what, outcomes, lambda outcome: outcome.code == 0 and not warnings_of(outcome))


@pytest.mark.stress
def test_malformed_configs(train, tally):
    outcomes = {text: train('coco', lambda files: None, text=text) for text in CONFIGS}
    report(tally, 'malformed configs', outcomes, lambda outcome: outcome.refused)
