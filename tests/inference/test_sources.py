"""Inputs: what is found, and that no two results share a name."""

import pytest

from mmca.inference.sources import find_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a/1.jpg', 'a/sub/1.JPG', 'a/notes.txt', 'b/1.png', 'b/1.jpg', 'b/1.mp4'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'x[1].jpg').touch()
    return tmp_path


@pytest.mark.parametrize(
    ('inputs', 'names', 'missing', 'skipped'),
    [
        (['a'], ['1', 'sub/1'], [], 1),
        (['a/1.jpg', 'a/1.jpg', 'a/../a/1.jpg'], ['1'], [], 0),
        (['a', 'b'], ['a/1', 'a/sub/1', 'b/1', 'b/1_2', 'b/1_3'], [], 1),
        (['a/1.jpg', 'b/1.jpg'], ['a/1', 'b/1'], [], 0),
        (['*/1.jpg'], ['a/1', 'b/1'], [], 0),
        (['a/**/*.*'], ['1', 'sub/1'], [], 1),
        (['a/notes.txt'], ['notes'], [], 0),  # an explicit file is tried
        (['x[1].jpg'], ['x[1]'], [], 0),  # a file, not a pattern
        (['nowhere', 'a/1.jpg', '*.gif'], ['1'], ['nowhere', '*.gif'], 0),
        (['nowhere.jpg'], [], ['nowhere.jpg'], 0),
    ],
)
def test_names(folder, inputs, names, missing, skipped):
    sources, *others = find_sources(inputs, 'out')
    assert [source.name for source in sources] == names
    assert others == [missing, skipped]


def test_results_are_not_inputs(folder):
    sources, _, _ = find_sources(['.'], 'a')
    assert [(s.file_name, s.is_video) for s in sources] == [
        ('b/1.jpg', False),
        ('b/1.mp4', True),
        ('b/1.png', False),
        ('x[1].jpg', False),
    ]
