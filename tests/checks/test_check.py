"""What the checks say when all is well, and who runs them."""

import pytest

from tests.helpers import DET, SEG


@pytest.mark.parametrize(
    ('base', 'line'),
    [
        (DET, 'mmdet train: {}, work dir here, 3 train images, 80 classes'),
        (SEG, 'mmseg train: {}, work dir here, 3 train images, 150 classes'),
    ],
)
def test_says_in_one_line_what_will_run(run, base, line):
    result = run('train', base, '--work-dir', 'here')
    assert result.out.splitlines()[-1] == line.format(base)
    assert result.err == ''
    assert result.argv[0].endswith('.mim/tools/train.py')
    assert result.argv[1:] == [base, '--work-dir', 'here']


def test_other_processes_check_nothing(run, data, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    (data / 'coco/annotations/instances_train2017.json').unlink()
    result = run('train', DET)
    assert result.argv[1:] == [DET]
    assert 'train images' not in result.out
