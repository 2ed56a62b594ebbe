"""Every malformed data set of the corpus through `mmca train` and `mmca test`, as runs."""

from importlib.util import find_spec

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmca.config.reader import library_of, load_config
from tests.stress.good_data import KINDS, NUMBER, write_config, write_good
from tests.stress.malformed import CASES, LATE, Case, case_of

UNSEEN = 200  # images, of which the checks look into each third and not into the damaged one
PRESENT = [kind for kind in KINDS if kind != 'folders' or find_spec('mmpretrain')]
GOOD = Case('good', '', lambda files: None, '', '')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Checkpoints of the tiny models, by the kind of their data."""
    paths = {}
    for kind in PRESENT:
        root = tmp_path_factory.mktemp(kind)
        cfg = load_config(str(write_config(root, kind)))
        with DefaultScope.overwrite_default_scope(library_of(cfg, kind)):
            state = MODELS.build(cfg.model).state_dict()
        paths[kind] = root / 'weights.pth'
        torch.save({'state_dict': state}, paths[kind])
    return paths


@pytest.fixture
def survives(weights, driver, tmp_path_factory):
    """Run a command on a damaged split; whether it ends as the case says, and what it printed."""

    def run(case, kind, tool, number=NUMBER):
        root = tmp_path_factory.mktemp('case')
        case.change(write_good(root, kind, number)[tool])
        argv = [str(write_config(root, kind, workers=1)), '--work-dir', str(root / 'work')]
        if tool == 'test':
            argv.insert(1, str(weights[kind]))
        done = driver.run([tool, *argv], root)
        text = done.text
        outcome = case.outcome_of(tool)
        if 'Traceback' in text or done.code != (2 if outcome == 'error' else 0):
            return False, text
        lines = [line for line in text.splitlines() if line.startswith(('error: ', 'warning: '))]
        fitting = [line for line in lines if line.startswith(outcome) and case.words in line]
        return bool(fitting) if outcome else not lines, text

    return run


@pytest.mark.stress
@pytest.mark.parametrize('tool', ['train', 'test'])
@pytest.mark.parametrize('kind', PRESENT)
def test_malformed_data(survives, tally, kind, tool):
    cases = [GOOD, *(case for case in CASES if case.kind == kind)]
    report(tally, f'malformed {kind} data, mmca {tool}', survives, cases, kind, tool)


@pytest.mark.stress
@pytest.mark.parametrize('tool', ['train', 'test'])
@pytest.mark.parametrize('kind', PRESENT)
def test_files_that_fail_in_a_data_worker(survives, tally, kind, tool):
    cases = [case_of(kind, name) for own, name in LATE if own == kind]
    what = f'{kind} files met by data workers, mmca {tool}'
    report(tally, what, survives, cases, kind, tool, number=UNSEEN)


def report(tally, what, survives, cases, kind, tool, **options):
    """Run the cases, print those that fail, and add them to the table."""
    good = 0
    for case in cases:
        right, text = survives(case, kind, tool, **options)
        good += right
        if not right:
            print(f'--- {what}: {case.name}\n{text[-2000:]}')
    tally(what, len(cases), good)
