"""A server on this machine that misbehaves as its addresses say, such as /cut/weights.pth."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAUSE = 30.0  # seconds, longer than any test's patience


class Server(ThreadingHTTPServer):
    """Serves the bytes in `content` for any name; /cut/... has at most `cut` of them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.modified, self.cut = bytes(range(256)) * 4000, 1_600_000_000, 300_000
        self.requests: list[tuple[str, str | None]] = []  # path, Range header
        self.closed = threading.Event()

    def address(self, kind: str, name: str = 'weights.pth') -> str:
        return f'http://127.0.0.1:{self.server_address[1]}/{kind}/{name}'


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        kind, server = self.path.split('/')[1], self.server
        server.requests.append((self.path, self.headers['Range']))
        if kind.isdigit():
            return self.send_error(int(kind))
        if kind in ('redirect', 'loop'):
            self.send_response(302)
            self.send_header('Location', server.address('good' if kind == 'redirect' else 'loop'))
            return self.end_headers()
        date, start = formatdate(server.modified, usegmt=True), 0
        if self.headers['Range'] and self.headers['If-Range'] == date:
            start = int(self.headers['Range'].removeprefix('bytes=').rstrip('-'))
        body, length = server.content[start:], len(server.content) - start
        if start and not length:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header('Last-Modified', date)
        self.send_header('Content-Type', 'text/html' if kind == 'page' else 'binary/octet-stream')
        if kind != 'endless':
            self.send_header('Content-Length', str(2**40 if kind == 'huge' else length))
        self.end_headers()
        with suppress(OSError):  # the client has hung up
            self.send(kind, body)

    def send(self, kind: str, body: bytes) -> None:
        server = self.server
        if kind == 'cut':
            self.wfile.write(body[: server.cut])
        elif kind == 'stall':
            self.wfile.write(body[:1000])
            server.closed.wait(PAUSE)
        elif kind == 'drip':
            for byte in body[:1000]:
                self.wfile.write(bytes([byte]))
                server.closed.wait(0.05)
        elif kind == 'slow':  # one second in all
            for index in range(0, len(body), step := len(body) // 20):
                self.wfile.write(body[index : index + step])
                time.sleep(0.05)
        else:
            self.wfile.write(body)
            while kind == 'endless' and not server.closed.is_set():
                self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        thread.join()
        server.server_close()
