"""What a repository's server has published, asked for in the way in which its client reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.cvmfs.published import ANY, MANIFEST_BYTES, PROXIED, parse_manifest, published
from pilot_agent.interpreter import interpreter_command
from pilot_agent.process import run
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace
from tests.probes.servers import Handler, endless, proxy, says, serve

A = "a.example.org"
NOW = int(time.time())
MANIFEST = f"C600230b0ba7620426f2e898f1e1f43c5466efe59\nB1024\nD240\nS42\nN{A}\nT{NOW - 7200}\nGno\n--\n0123\n\xff\x00"


def manifest(text: str = MANIFEST, status: str = "200 OK") -> Handler:
    """A server that sends this for any address."""
    content = text.encode("latin-1")
    head = f"HTTP/1.1 {status}\r\nDate: {formatdate(NOW, usegmt=True)}\r\nContent-Length: {len(content)}\r\n"
    return says(f"{head}Connection: close\r\n\r\n".encode() + content)


def asked(place: Path, attributes: dict[str, str], way: str = ANY) -> Any:
    """What is told of a mount whose client has these attributes; the problem as text."""

    def work() -> Any:
        with hanging_mount(place / A, {f"user.{name}": value for name, value in attributes.items()}):
            try:
                return published(str(place / A), way)
            except (OSError, ValueError) as error:
                return f"{type(error).__name__}: {error}"

    return in_namespace(work)


def test_a_server_is_asked_straight_where_its_client_does_so(tmp_path: Path) -> None:
    with serve(manifest()) as port:
        told = asked(tmp_path, {"host": f"http://127.0.0.1:{port}/cvmfs/{A}", "proxy": "DIRECT"})
    assert told == {"revision": 42, "ttl": 240, "age": 7200}


def test_the_question_goes_through_the_proxy_that_the_client_uses(tmp_path: Path) -> None:
    seen: list[bytes] = []
    with serve(manifest()) as origin, serve(proxy({"s1.example.org": origin}, seen=seen)) as squid:
        client = {"host": f"http://s1.example.org:80/cvmfs/{A}", "proxy": f"http://127.0.0.1:{squid}"}
        assert asked(tmp_path, client, PROXIED)["revision"] == 42
    assert seen[0].startswith(f"GET http://s1.example.org:80/cvmfs/{A}/.cvmfspublished HTTP/1.1".encode())


def test_nobody_is_asked_without_a_proxy_where_that_is_not_allowed(tmp_path: Path) -> None:
    told = asked(tmp_path, {"host": "http://127.0.0.1:9/cvmfs/x", "proxy": "DIRECT"}, PROXIED)
    assert list(told) == ["reason"]
    assert "cvmfs.direct" in told["reason"]


@pytest.mark.parametrize("host", ["", "https://s1.example.org/cvmfs/x", "file:///srv/cvmfs", "//var/tmp/server"])
def test_what_is_no_server_by_plain_http_is_not_asked(tmp_path: Path, host: str) -> None:
    assert "no server that can be asked" in asked(tmp_path, {"host": host})["reason"]


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (manifest(status="404 Not Found"), "HTTP status 404"),
        (manifest("<html>log in</html>"), "is no manifest"),
        (manifest("S" + "9" * 40), "is no manifest"),
        (manifest(MANIFEST.replace(A, "b.example.org")), "another repository"),
        (says(b"SSH-2.0-OpenSSH\r\n"), "BadStatusLine"),
    ],
    ids=["missing", "a page", "a number without end", "another repository", "no HTTP"],
)
def test_what_a_server_says_wrongly_is_told_and_never_a_revision(tmp_path: Path, handler: Handler, said: str) -> None:
    with serve(handler) as port:
        path = tmp_path / A
        command = [*interpreter_command(), "_cvmfs", "published", ANY, str(path)]

        def work() -> Any:
            with hanging_mount(path, {"user.host": f"http://127.0.0.1:{port}/cvmfs/{A}"}):
                ended = run(command, deadline_seconds=60, environment={})
                return [ended.code, ended.stdout.decode(), ended.explain()]

        code, output, why = in_namespace(work)
    assert code == 0, why
    told = json.loads(output)
    assert "revision" not in told
    assert said in told["reason"]


def test_a_server_that_sends_without_end_is_read_to_a_limit(tmp_path: Path) -> None:
    def sends() -> Callable[..., Any]:
        head = f"HTTP/1.1 200 OK\r\n\r\nS7\nN{A}\n--\n".encode()

        def handle(connection: Any) -> None:
            connection.recv(4096)
            connection.sendall(head)
            endless(connection)

        return handle

    with serve(sends()) as port:
        assert asked(tmp_path, {"host": f"http://127.0.0.1:{port}/cvmfs/{A}"}) == {"revision": 7}


@given(st.binary(max_size=300) | st.text("SNTDC0123456789\n-", max_size=200).map(str.encode))
def test_whatever_is_sent_a_manifest_has_a_revision_or_is_none(content: bytes) -> None:
    assert len(content) < MANIFEST_BYTES
    try:
        told = parse_manifest(content)
    except ValueError:
        return
    assert isinstance(told["revision"], int)
    assert set(told) <= {"revision", "name", "published", "ttl"}


def test_what_follows_the_dashes_is_the_signature_and_says_nothing() -> None:
    assert parse_manifest(b"S1\n--\nS99\nT5\n") == {"revision": 1}
