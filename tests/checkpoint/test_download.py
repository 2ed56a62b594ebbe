"""Downloads into torch's cache, from servers that stop, stall, lie or are gone."""

import hashlib
import io
import os
import subprocess
import sys
import time
from multiprocessing import get_context

import pytest

from mmca.checkpoint import download
from mmca.errors import InputError


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def files(cache):
    return sorted(path.name for path in cache.iterdir() if path.name != '.mmca.lock')


def test_a_file_is_downloaded_once_and_its_hash_written_beside_it(cache, server, capfd):
    address = server.address('redirect', 'some%20weights.pth?dl=1')
    for _ in range(2):
        path = download(address)
        assert path == cache / 'some weights.pth'
        assert path.read_bytes() == server.content
    assert len(server.requests) == 2  # the second from the redirection
    assert files(cache) == ['some weights.pth', 'some weights.pth.sha256']
    check = ['sha256sum', '--check', '--strict', 'some weights.pth.sha256']
    assert subprocess.run(check, cwd=cache, capture_output=True).returncode == 0
    assert capfd.readouterr() == ('', '')  # no progress, since nobody looks at a terminal


def test_a_terminal_shows_the_progress(cache, server, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', stream)
    download(server.address('good'))
    assert stream.getvalue().endswith('\rweights.pth: 1 of 1 MB\n')


def test_what_breaks_off_is_continued_at_once(cache, server):
    path = download(server.address('cut'))
    assert path.read_bytes() == server.content
    ranges = [start for _, start in server.requests]
    assert ranges == [None, 'bytes=300000-', 'bytes=600000-', 'bytes=900000-']


def test_what_keeps_breaking_off_is_continued_by_the_next_call(cache, server):
    server.cut = 100_000
    with pytest.raises(InputError, match='the connection closed after 500000 of 1024000 bytes'):
        download(server.address('cut'))
    assert files(cache) == ['weights.pth.part']
    path = download(server.address('cut').replace('cut', 'good'))
    assert server.requests[-1][1] == 'bytes=500000-'
    assert path.read_bytes() == server.content
    assert files(cache) == ['weights.pth', 'weights.pth.sha256']


def test_a_part_of_another_version_is_not_continued(cache, server):
    server.cut = 100_000
    with pytest.raises(InputError, match='the connection closed after'):
        download(server.address('cut'))
    server.content, server.modified = bytes(1024_000), server.modified + 86400
    assert download(server.address('good')).read_bytes() == server.content


def test_a_part_that_is_complete_is_downloaded_again(cache, server):
    """The process was killed between the last byte and the renaming."""
    cache.mkdir(parents=True)
    part = cache / 'weights.pth.part'
    part.write_bytes(server.content)
    os.utime(part, (server.modified, server.modified))
    assert download(server.address('good')).read_bytes() == server.content
    assert [start for _, start in server.requests] == ['bytes=1024000-', None]


def test_a_slow_server_is_waited_for_and_a_stalled_one_is_not(cache, server):
    for kind, expected in (('stall', 'timed out'), ('drip', r'bytes in 0\.3 seconds')):
        start = time.monotonic()
        with pytest.raises(InputError, match=expected):
            download(server.address(kind, f'{kind}.pth'), timeout=0.3)
        assert time.monotonic() - start < 10
    assert download(server.address('slow'), timeout=0.3).read_bytes() == server.content


@pytest.mark.parametrize('digits', [8, 64])
def test_the_hash_is_checked_before_the_file_gets_its_name(digits, cache, server):
    expected = sha256(server.content)[:digits]
    server.content = b'x' + server.content[1:]
    with pytest.raises(InputError, match=f'SHA-256 begins with [0-9a-f]*, not {expected}'):
        download(server.address('good'), sha256=expected)
    assert files(cache) == []
    right = sha256(server.content)[:digits]
    assert download(server.address('good'), sha256=right).read_bytes() == server.content


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [
        ('404', 'cannot download http://.*/404/weights.pth: 404 Not Found'),
        ('503', ': 503 Service Unavailable'),
        ('page', 'the server sent a web page instead'),
        ('huge', 'it has 1099511627776 bytes, more than the limit of 2000000'),
        ('endless', 'it exceeds the limit of 2000000 bytes'),
        ('loop', '302 .*infinite loop'),
    ],
)
def test_what_cannot_be_had_is_one_line_with_the_place_for_the_file(kind, expected, cache, server):
    with pytest.raises(InputError, match=expected) as caught:
        download(server.address(kind), max_bytes=2_000_000)
    message = str(caught.value)
    assert message.endswith(f'save it as {cache / "weights.pth"}')
    assert '\n' not in message
    assert files(cache) == []


@pytest.mark.parametrize(
    ('address', 'expected'),
    [
        ('http://127.0.0.1:9/a.pth', 'Connection refused'),
        ('http://no.invalid/a.pth', 'cannot download http://no.invalid/a.pth: '),
        ('http://127.0.0.1:x/a.pth', 'nonnumeric port'),
        ('http://127.0.0.1', 'http://127.0.0.1 does not end in a file name'),
        ('http://127.0.0.1/..', 'does not end in a file name'),
    ],
)
def test_without_a_server_it_is_one_line(address, expected, cache):
    with pytest.raises(InputError, match=expected):
        download(address)


def test_a_file_that_changed_in_the_cache_is_refused(cache, server):
    path = download(server.address('good'))
    path.write_bytes(b'other')
    with pytest.raises(InputError, match=r'weights\.pth is damaged or a different file'):
        download(server.address('good'))


def test_another_address_does_not_get_a_file_of_the_same_name(cache, server):
    download(server.address('good'))
    other = server.address('good').replace('good', 'other')
    with pytest.raises(InputError, match=f'is from {server.address("good")}, not {other}'):
        download(other)


def test_a_file_put_there_by_hand_is_taken(cache, server):
    cache.mkdir(parents=True)
    (cache / 'weights.pth').write_bytes(server.content)
    digest = sha256(server.content)
    with pytest.raises(InputError, match='not 01234567; delete it'):
        download(server.address('404'), sha256='01234567')
    assert download(server.address('404'), sha256=digest[:8]) == cache / 'weights.pth'
    assert (cache / 'weights.pth.sha256').read_text().startswith(digest)
    assert server.requests == []


def start(address):
    process = get_context('fork').Process(target=download, args=(address,))
    process.start()
    return process


def test_processes_that_start_together_download_once(cache, server):
    processes = [start(server.address('slow')) for _ in range(3)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(server.requests) == 1
    assert (cache / 'weights.pth').read_bytes() == server.content


def test_a_killed_process_leaves_what_the_next_one_continues(cache, server):
    process = start(server.address('slow'))
    part = cache / 'weights.pth.part'
    while not part.is_file() or part.stat().st_size < 200_000:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert download(server.address('good')).read_bytes() == server.content
    assert [bool(start) for _, start in server.requests] == [False, True]
