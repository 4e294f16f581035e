"""The way to a server: real servers, a real proxy, bounded downloads, and no secret in what is said."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pilot_agent.benchmarks.network import NetworkError, measure, shown

MIB = 1 << 20
BODY = bytes(4 * MIB)


class Handler(BaseHTTPRequestHandler):
    """A server, and a proxy for what is asked for by its whole address."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.close_connection = True
        path = self.path.partition("?")[0]
        if path.startswith("http://"):
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.path, timeout=60) as found:
                self.answer(200, found.read())
        elif path == "/small":
            self.answer(200, b"hello")
        elif path == "/moved":
            self.answer(302, b"", Location="/large?secret=1")
        elif path == "/round":
            self.answer(302, b"", Location="/round")
        elif path == "/elsewhere":
            self.answer(302, b"", Location="ftp://example.org/large")
        elif path == "/stall":
            self.stall()
        elif path == "/large":
            self.answer(200, BODY)
        else:
            self.answer(404, b"nothing")

    def stall(self) -> None:
        """Enough for a rate, and then nothing more until the test is over."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: 2 * MIB])
        self.wfile.flush()
        self.server.over.wait(60)  # type: ignore[attr-defined]

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class Server(ThreadingHTTPServer):
    """What it was asked for is in ``asked``."""

    daemon_threads = False  # so that closing it waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that has enough hangs up, which is no error here."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


def test_a_download_has_a_rate_for_each_round_and_a_time_to_connect(server: Server) -> None:
    found = measure(f"{server.url}/large", {}, limit_bytes=8 * MIB, rounds=3, seconds=60)
    assert len(found.rates) == 3
    assert all(rate > 0 for rate in found.rates)
    assert found.received_bytes == len(BODY)
    assert found.connect_ms > 0
    assert found.proxy == ""
    assert found.rate == sorted(found.rates)[1]


def test_no_more_is_downloaded_than_allowed(server: Server) -> None:
    assert measure(f"{server.url}/large", {}, limit_bytes=2 * MIB, rounds=1, seconds=60).received_bytes == 2 * MIB


def test_a_server_that_stalls_counts_with_what_came(server: Server) -> None:
    found = measure(f"{server.url}/stall", {}, limit_bytes=8 * MIB, rounds=3, seconds=1.5)
    assert found.received_bytes == 2 * MIB
    assert len(found.rates) == 1


def test_the_proxy_of_the_environment_is_used_and_named_without_its_password(server: Server) -> None:
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.05,))
        thread.start()
        try:
            environment = {"http_proxy": f"http://me:hidden@127.0.0.1:{other.server_port}"}
            found = measure(f"{server.url}/large", environment, limit_bytes=8 * MIB, rounds=1, seconds=60)
        finally:
            other.shutdown()
            thread.join()
    assert found.proxy == f"127.0.0.1:{other.server_port}"
    assert other.asked == [f"{server.url}/large"]
    assert server.asked == ["/large"]
    assert "hidden" not in repr(found)


def test_what_no_proxy_names_is_reached_directly(server: Server) -> None:
    environment = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}
    assert measure(f"{server.url}/large", environment, limit_bytes=MIB, rounds=1, seconds=60).proxy == ""


def test_a_redirect_is_followed(server: Server) -> None:
    assert measure(f"{server.url}/moved", {}, limit_bytes=MIB, rounds=1, seconds=60).rate > 0
    assert server.asked == ["/moved", "/large?secret=1"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nothing", "the server says 404"),
        ("/small", "5 bytes came: for a rate 1048576 are needed, so name a larger file"),
        ("/round", "more than 3 times"),
        ("/elsewhere", "no address of http:// or https://"),
    ],
)
def test_a_server_that_gives_no_file_is_told_by_its_address(server: Server, path: str, said: str) -> None:
    with pytest.raises(NetworkError, match=said) as caught:
        measure(f"{server.url}{path}?signature=hidden", {}, limit_bytes=MIB, rounds=1, seconds=60)
    assert str(caught.value).startswith(f"{server.url}{path}: ")
    assert "hidden" not in str(caught.value)


def test_a_port_that_nobody_listens_on_is_told(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match=f"no connection to 127.0.0.1 port {port}: Connection refused"):
            measure(f"http://127.0.0.1:{port}/x", {}, limit_bytes=MIB, rounds=1, seconds=60)


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/x", "/large", "http://", "http://me:hidden@example.org/x", "http://example.org:port/x", ""],
)
def test_what_is_no_address_is_not_asked(url: str) -> None:
    with pytest.raises(NetworkError) as caught:
        measure(url, {}, limit_bytes=MIB, rounds=1, seconds=60)
    assert "hidden" not in str(caught.value)


def test_an_https_server_of_no_known_authority_is_refused(server: Server) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(NetworkError, match=r"https://127\.0\.0\.1"):
        measure(f"{url}/large", {}, limit_bytes=MIB, rounds=1, seconds=60)


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://user:word@example.org:8443/a/b?token=x#y", "https://example.org:8443/a/b"),
        ("http://[2001:db8::1]/a", "http://[2001:db8::1]/a"),
        ("http://example.org:x/", "an address that is none"),
    ],
)
def test_an_address_is_written_without_what_may_be_secret(url: str, written: str) -> None:
    assert shown(url) == written
