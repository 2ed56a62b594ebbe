"""Reading the logs of trainings."""

import json

import pytest

from mmca.analysis.logs import read_scalars
from mmca.errors import InputError


def test_logs_of_a_resumed_run(tmp_path):
    validation = {'mIoU': 1.0, 'step': 0}
    logs = [
        [{'loss': 3.0, 'iter': 1, 'step': 1}, {'loss': 2.0, 'iter': 2, 'step': 2}],
        [{'loss': 2.5, 'iter': 2, 'step': 2}, {'loss': 1.0, 'iter': 3, 'step': 3}, validation],
    ]
    assert read_scalars(tmp_path) == []
    for index, lines in enumerate(logs):
        file = tmp_path / str(index) / 'vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text('\n'.join(map(json.dumps, lines)))
    entries = read_scalars(tmp_path)
    assert [entry.get('loss') for entry in entries] == [3.0, 2.5, 1.0, None]
    assert entries[-1] == {'mIoU': 1.0, 'step': 3}
    file.write_text('{"loss": 1.0, "iter": 1}\n{"loss": ')
    with pytest.raises(InputError, match=r'scalars\.json, line 2: not a log entry'):
        read_scalars(tmp_path)
