"""Reading the logs of trainings."""

import json

import pytest

from mmca.analysis.logs import read_scalars
from mmca.errors import InputError


def write_log(folder, *lines):
    """A log as mmengine writes it."""
    file = folder / 'vis_data/scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(lines))


def test_a_resumed_run_has_the_later_entry_of_an_iteration(tmp_path):
    validation = {'mIoU': 1.0, 'step': 0}
    logs = [
        [{'loss': 3.0, 'iter': 1, 'step': 1}, {'loss': 2.0, 'iter': 2, 'step': 2}],
        [{'loss': 2.5, 'iter': 2, 'step': 2}, {'loss': 1.0, 'iter': 3, 'step': 3}, validation],
    ]
    for index, lines in enumerate(logs):
        write_log(tmp_path / str(index), *map(json.dumps, lines))
    entries = read_scalars(tmp_path)
    assert [entry.get('loss') for entry in entries] == [3.0, 2.5, 1.0, None]
    assert entries[-1] == {'mIoU': 1.0, 'step': 3}


def test_a_damaged_log_is_named(tmp_path):
    write_log(tmp_path / '0', '{"loss": 1.0, "iter": 1}', '{"loss": ')
    with pytest.raises(InputError, match=r'scalars\.json, line 2, is no log'):
        read_scalars(tmp_path)


def test_a_folder_without_logs(tmp_path):
    assert read_scalars(tmp_path) == []
