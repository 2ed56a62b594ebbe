"""mmca app: the page in a browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from mmca.inference import Predictor
from tests.helpers import ROOT, write_image
from tests.inference.trained import noise

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')


@pytest.fixture
def browser():
    """A headless Chromium."""
    pytest.importorskip('gradio', reason='needs requirements-app.txt')
    sync_api = pytest.importorskip('playwright.sync_api', reason='needs requirements-app.txt')
    if CHROMIUM is None:
        pytest.skip('needs chromium')
    with sync_api.sync_playwright() as playwright:
        flags = ['--no-sandbox'] if os.getuid() == 0 else []  # its sandbox refuses root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def server(det, tmp_path):
    """The command in another process, its address, and a proxy that it must not use."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = str(free.getsockname()[1])
    (tmp_path / 'temporary').mkdir()
    env = {k: v for k, v in os.environ.items() if k.lower() not in ('no_proxy', 'all_proxy')}
    command = [sys.executable, '-m', 'mmca', 'app', det.config, det.checkpoint]
    with socket.create_server(('127.0.0.1', 0)) as proxy, open(tmp_path / 'err.txt', 'w') as err:
        proxy.setblocking(False)
        for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
            env[name] = f'http://127.0.0.1:{proxy.getsockname()[1]}'
        process = subprocess.Popen(
            [*command, '--port', port, '--device', 'cpu', '--score-thr', '0.1'],
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env=env | {'TMPDIR': str(tmp_path / 'temporary')},
            cwd=ROOT,
            # Jobs in the background of a script ignore Ctrl-C, and so would this process.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        found = re.match(r'open (http://127\.0\.0\.1:\d+/) in', process.stdout.readline())
        assert found, (tmp_path / 'err.txt').read_text()
        yield process, found[1], proxy
        process.kill()
        process.wait()


class Visitor:
    """A browser window with its own session."""

    def __init__(self, browser, address):
        self.requests = []
        self.page = browser.new_context(viewport={'width': 1200, 'height': 900}).new_page()
        self.page.on('request', lambda request: self.requests.append(request.url))
        self.image = self.page.locator('.image-frame img')
        self.figures = self.page.locator('.matplotlib img')
        self.page.goto(address)

    def drop(self, path):
        self.page.locator('input[type=file]').set_input_files(str(path))

    def reads(self, text):
        """Wait until the page has a text."""
        self.page.get_by_text(text).first.wait_for(timeout=60_000)

    def threshold(self, value):
        box = self.page.locator('input[type=number]')
        box.fill(str(value))
        box.press('Tab')


@pytest.mark.slow
def test_the_page(browser, server, det, tmp_path):
    process, address, proxy = server
    write_image(tmp_path / 'a.png', noise(0, (240, 320)))
    write_image(tmp_path / 'b.png', noise(1, (160, 200)))
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 no more')
    predictor = Predictor(det.config, det.checkpoint, 'cpu')
    scores = {name: predictor(tmp_path / name).scores for name in ('a.png', 'b.png')}
    assert 0.1 <= scores['a.png'].max() < 0.9

    def line(name, size, threshold):
        number = (scores[name] >= threshold).sum()
        return f'{name}, {size} pixels. Objects that score at least {threshold:g}: {number}.'

    one, other = Visitor(browser, address), Visitor(browser, address)
    one.drop(tmp_path / 'a.png')
    one.reads(line('a.png', '320 x 240', 0.1))
    one.image.wait_for()
    first = one.image.get_attribute('src')
    other.drop(tmp_path / 'b.png')
    other.reads(line('b.png', '200 x 160', 0.1))
    one.threshold(0.9)
    one.reads(line('a.png', '320 x 240', 0.9))  # its own image, not the other visitor's
    one.page.wait_for_function(
        'src => document.querySelector(".image-frame img").src != src', arg=first
    )

    box = one.image.bounding_box()
    one.image.click(position={'x': box['width'] * 0.75, 'y': box['height'] * 0.5})
    one.figures.first.wait_for()
    pixel = re.search(r'from x = (\d+), y = (\d+)', one.page.content()).groups()
    assert [int(value) for value in pixel] == pytest.approx([240, 120], abs=2)
    assert one.figures.evaluate_all('all => all.map(i => i.complete && i.width > 0)') == [True]
    assert other.figures.count() == 0

    one.drop(tmp_path / 'broken.jpg')
    one.reads('cannot read broken.jpg: ')
    assert str(tmp_path) not in one.page.content()
    assert one.figures.count() == one.image.count() == 0
    one.threshold(0.5)
    one.reads('Drop an image here.')
    one.drop(tmp_path / 'a.png')  # the page still works
    one.reads(line('a.png', '320 x 240', 0.5))

    local = address, 'data:', 'blob:'
    assert [url for url in one.requests + other.requests if not url.startswith(local)] == []
    with pytest.raises(BlockingIOError):  # nobody has connected
        proxy.accept()
    assert list((tmp_path / 'temporary').glob('mmca-app-*'))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert not list((tmp_path / 'temporary').glob('mmca-app-*'))
    assert 'Traceback' not in (tmp_path / 'err.txt').read_text()
