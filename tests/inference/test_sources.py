"""Inputs: what is found, and that no two results have one name."""

import pytest

from mmca.errors import InputError
from mmca.inference.sources import find_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a/1.jpg', 'a/sub/1.JPG', 'a/notes.txt', 'b/1.png', 'b/1.jpg', 'b/1.mp4'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(*inputs, out='out'):
    sources, passed_over = find_sources(inputs, out)
    return [source.name for source in sources], passed_over


@pytest.mark.parametrize(
    ('inputs', 'expected'),
    [
        (['a'], (['1', 'sub/1'], 1)),
        (['a/1.jpg'], (['1'], 0)),
        (['a/1.jpg', 'a/1.jpg', 'a/../a/1.jpg'], (['1'], 0)),
        (['a', 'b'], (['a/1', 'a/sub/1', 'b/1', 'b/1_2', 'b/1_3'], 1)),
        (['a/1.jpg', 'b/1.jpg'], (['a/1', 'b/1'], 0)),
        (['*/1.jpg'], (['a/1', 'b/1'], 0)),
        (['a/**/*.*'], (['1', 'sub/1'], 1)),
        (['a/notes.txt'], (['notes'], 0)),  # a file that is named is tried
    ],
)
def test_names(folder, inputs, expected):
    assert names(*inputs) == expected


def test_what_a_source_is(folder):
    sources, _ = find_sources(['b'], 'out')
    assert [(s.file_name, s.is_video) for s in sources] == [
        ('1.jpg', False),
        ('1.mp4', True),
        ('1.png', False),
    ]


def test_results_are_no_inputs(folder):
    assert names('.', out='a')[0] == ['b/1', 'b/1_2', 'b/1_3']


def test_a_file_with_the_characters_of_a_pattern(folder):
    (folder / 'x[1].jpg').touch()
    assert names('x[1].jpg') == (['x[1]'], 0)


def test_nothing(folder):
    with pytest.raises(InputError, match='no such file or folder: nowhere'):
        names('nowhere')
    with pytest.raises(InputError, match=r'no image or video in \*\.gif \(known suffixes: \.jpg,'):
        names('*.gif')
