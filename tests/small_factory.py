"""A factory that takes whatever pilots send, for tests of the sending."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Factory(ThreadingHTTPServer):
    """Keeps what is posted; answers with ``status``, and with ``stall`` not before it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.refused: dict[str, int] = {}
        """The last part of an address, and how it is answered."""
        self.newer = ""
        self.documents: dict[str, bytes] = {}
        """What is to be fetched, by the address."""
        self.fetched: list[dict[str, str]] = []
        """The headers of what was asked for."""
        self.stall: threading.Event | None = None

    @property
    def kinds(self) -> list[str]:
        """What came, by the last part of the address, in the order in which it came."""
        return [path.rpartition("/")[2] for path, _, _ in self.posts]

    def bodies(self, kind: str) -> list[bytes]:
        """What came of one kind."""
        return [body for path, _, body in self.posts if path.endswith(f"/{kind}")]

    @property
    def events(self) -> list[Any]:
        """The events that came, in the order in which they came."""
        lines = [line for path, _, body in self.posts if path == "/p/events" for line in body.splitlines()]
        return [json.loads(line) for line in lines]


class _Handler(BaseHTTPRequestHandler):
    server: Factory

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.stall is not None:
            self.server.stall.wait(60)
        status = self.server.refused.get(self.path.rpartition("/")[2], self.server.status)
        if status == 200:
            self.server.posts.append((self.path, dict(self.headers), body))
        self.send_response(status)
        if self.server.newer:
            self.send_header("X-Pilot-Token", self.server.newer)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        found = self.server.documents.get(self.path)
        self.server.fetched.append(dict(self.headers))
        self.send_response(404 if found is None else self.server.status)
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def small_factory() -> Iterator[Factory]:
    """One that serves."""
    server = Factory()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        if server.stall is not None:
            server.stall.set()
        server.shutdown()
        thread.join()
        server.server_close()
