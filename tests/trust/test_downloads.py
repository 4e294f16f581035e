"""Mirrors and proxies that are gone, slow, or lie: what a pilot does then, with real servers."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.trust.bundle import Trust, read_bundle
from pilot_agent.trust.repository import SignedRepository
from tests.trust.conftest import PATIENCE_SECONDS, PLUGIN, Repository, Site

GONE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.trust.downloads.STALL_SECONDS", 0.3)
    monkeypatch.setattr("pilot_agent.containers.store.download.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("pilot_agent.containers.store.download.LONGEST_PAUSE_SECONDS", 0.01)


class Portal(BaseHTTPRequestHandler):
    """A proxy that gives everybody its own page."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please log in</html>")

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def portal() -> Iterator[type[Portal]]:
    """One that runs; ``asked`` is what it was asked for, ``address`` where it is."""
    site: Any = type("OwnPortal", (Portal,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site.address = f"http://127.0.0.1:{server.server_port}"
        yield site
        server.shutdown()


@contextmanager
def cache() -> Iterator[tuple[str, list[str]]]:
    """A proxy that keeps every answer until it is told to ask again; its address, and what it asked servers for."""
    kept: dict[str, bytes] = {}
    asked: list[str] = []

    class Cache(Portal):
        def do_GET(self) -> None:
            if self.path not in kept or self.headers["Cache-Control"] == "max-age=0":
                asked.append(self.path)
                parts = urlsplit(self.path)
                connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
                with closing(connection):
                    connection.request("GET", parts.path)
                    with connection.getresponse() as answer:
                        if answer.status != 200:
                            self.send_error(answer.status)
                            return
                        kept[self.path] = answer.read()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(kept[self.path])

    with ThreadingHTTPServer(("127.0.0.1", 0), Cache) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def several(repository: Repository, number: int) -> list[str]:
    """The names of so many artifacts, published."""
    operator = repository.operator
    files = [operator.file(f"{place}.yaml", f"a: {place}") for place in range(number)]
    operator.do("add", "config", *files)
    repository.publish()
    return [f"config/{file.name}" for file in files]


def client(repository: Repository, *mirrors: str) -> SignedRepository:
    own = repository.operator.place / "own"
    own.mkdir(exist_ok=True)
    end = time.monotonic() + PATIENCE_SECONDS
    return SignedRepository(read_bundle(str(repository.bundle)), mirrors or (repository.address,), str(own), {}, end)


def test_several_artifacts_are_fetched_at_a_time(repository: Repository, tmp_path: Path) -> None:
    names = several(repository, 3)
    repository.site.together = threading.Barrier(3)
    wanted = {name: str(tmp_path / name.replace("/", "-")) for name in names}
    client(repository).fetch_all(wanted, most_bytes=100)
    assert [Path(path).read_text() for path in wanted.values()] == ["a: 0", "a: 1", "a: 2"]


def test_of_several_artifacts_nothing_is_left_when_one_is_refused(repository: Repository, tmp_path: Path) -> None:
    names = several(repository, 3)
    (altered,) = (repository.operator.published / "targets/config").glob("*.1.yaml")
    altered.write_text("a: 9")
    wanted = {name: str(tmp_path / "wanted" / name.replace("/", "-")) for name in names}
    (tmp_path / "wanted").mkdir()
    with pytest.raises(PilotError) as caught:
        client(repository).fetch_all(wanted, most_bytes=100)
    assert caught.value.failure.code == "artifact.digest"
    assert not list((tmp_path / "wanted").iterdir())


@pytest.mark.parametrize("how", ["stalled", "slow"])
def test_a_mirror_that_hardly_sends_anything_is_left_for_another(repository: Repository, how: str) -> None:
    bad = f"{repository.address}/{how}"
    assert repository.fetch(PLUGIN, bad, repository.address) == b"content"
    failure = repository.refused(PLUGIN, bad).failure
    assert (failure.kind, failure.code) == (FailureKind.NETWORK, "artifact.stalled")


def test_a_mirror_gets_half_of_the_time_that_is_left_where_there_is_another(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that sends just enough not to be called slow cannot use up all of it."""
    monkeypatch.setattr("pilot_agent.containers.store.download.SLOWEST_BYTES_PER_SECOND", 1)
    monkeypatch.setattr("tests.trust.conftest.PATIENCE_SECONDS", 4.0)
    # Not before the time is over: nothing but the deadline ends it.
    failure = repository.refused(PLUGIN, f"{repository.address}/slow", GONE).failure
    assert failure.code == "artifact.deadline"


def test_a_dead_mirror_is_asked_once_for_all_artifacts(
    repository: Repository, portal: type[Any], tmp_path: Path
) -> None:
    names = several(repository, 3)
    wanted = {name: str(tmp_path / name.replace("/", "-")) for name in names}
    client(repository, portal.address, repository.address).fetch_all(wanted, most_bytes=100)
    assert portal.asked.count("/metadata/timestamp.json") <= 1
    assert len(portal.asked) <= 2


def test_proxies_are_tried_in_their_order_until_one_is_to_be_believed(
    repository: Repository, portal: type[Any]
) -> None:
    """One is gone, one shows its own page for everything, and then there is none in between."""
    assert repository.fetch(proxies=(GONE, portal.address, "direct")) == b"content"
    assert portal.asked[0] == f"{repository.address}/metadata/2.root.json"
    failure = repository.refused(proxies=(GONE, portal.address)).failure
    assert failure.kind is FailureKind.CORRUPTION
    assert f"through {portal.address}" in failure.message
    assert repository.refused(proxies=(GONE,)).failure.code == "artifact.unreachable"


@pytest.mark.parametrize("proxy", ["proxy.example.org:3128", "https://a:1", "http://user@a:1", "DIRECT", ""])
def test_a_proxy_that_is_none_is_refused(repository: Repository, proxy: str) -> None:
    trust = Trust(str(repository.bundle), (repository.address,), ("direct", proxy))
    with pytest.raises(PilotError) as caught:
        trust.repository(str(repository.operator.place), {}, 1e9)
    assert caught.value.failure.code == "config.invalid"
    assert "artifacts.proxies[1]" in caught.value.failure.message


def test_a_cache_on_the_way_keeps_all_but_the_timestamp(repository: Repository) -> None:
    """And what it has of an old one is not taken for a rollback."""
    with cache() as (address, asked):
        assert repository.fetch(proxies=(address,)) == b"content"
        repository.give_bundle()
        first = len(asked)
        assert repository.fetch(proxies=(address,)) == b"content"
        again = [path.rpartition("/")[2] for path in asked[first:]]
        assert set(again) <= {"timestamp.json", "2.root.json"}, "the server is asked for nothing else"
        repository.publish()
        repository.give_bundle()
        assert repository.fetch(proxies=(address,)) == b"content"


def test_a_transfer_that_breaks_off_goes_on_where_it_was(repository: Repository) -> None:
    asked: list[str | None] = []
    whole, site = b"content", repository.site
    plain = site.do_GET

    def break_off(request: Site) -> None:
        if "/targets/" not in request.path:
            plain(request)
            return
        wanted = request.headers["Range"]
        asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        request.send_header("Content-Length", str(len(whole) - start))
        request.send_header("ETag", '"one"')
        request.end_headers()
        request.wfile.write(whole[start:] if wanted else whole[:3])

    site.do_GET = break_off  # type: ignore[assignment,method-assign]
    assert repository.fetch() == whole
    assert asked == [None, "bytes=3-"]


def test_pilots_that_lost_a_server_together_do_not_come_back_together(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilot_agent.containers.store.download.FIRST_PAUSE_SECONDS", 0.02)
    waits: list[float] = []
    monkeypatch.setattr("pilot_agent.containers.store.download.time.sleep", waits.append)
    for _ in range(4):
        repository.refused(PLUGIN, GONE)
    assert len(waits) >= 4
    assert len(set(waits)) == len(waits)
    assert all(0.005 <= wait <= 0.03 for wait in waits)


def test_a_mirror_that_leads_to_another_host_is_not_followed(repository: Repository) -> None:
    failure = repository.refused(PLUGIN, f"{repository.address}/elsewhere").failure
    assert (failure.kind, failure.code) == (FailureKind.NETWORK, "artifact.elsewhere")
    assert repository.fetch(PLUGIN, f"{repository.address}/elsewhere", repository.address) == b"content"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://[there\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\xe9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
        b"HTTP/1.1 206 OK\r\nContent-Range: bytes " + b"9" * 5000 + b"-1/2\r\n\r\n{}",
    ],
    ids=["no address", "no ASCII", "long length", "long range"],
)
def test_a_mirror_whose_answer_makes_no_sense_is_left_for_another(repository: Repository, answer: bytes) -> None:
    class Nonsense(Portal):
        def do_GET(self) -> None:
            self.wfile.write(answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}"
        assert repository.fetch(PLUGIN, mirror, repository.address) == b"content"
        failure = repository.refused(PLUGIN, mirror).failure
        server.shutdown()
    assert (failure.kind, failure.code) == (FailureKind.NETWORK, "artifact.unreachable")
