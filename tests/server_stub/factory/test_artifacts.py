"""Published files: whole, in part, kept by caches for as long as is right, and nothing beside them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from server_stub.entries import Factory
from server_stub.factory import artifacts
from server_stub.factory.application import application
from server_stub.factory.live import Live, live
from server_stub.factory.patience import ImpatientProtocol
from server_stub.factory.store import Store
from tests.packaging.signing import Operator
from tests.server_stub.factory.test_application import Client

CONTENT = bytes(range(256)) * 2000
"""Of several pieces, and not a whole number of them."""
HEXADECIMAL = "0123456789abcdef" * 4


@pytest.fixture
def published(tmp_path: Path) -> Path:
    made = tmp_path / "published"
    (made / "targets" / "condor").mkdir(parents=True)
    (made / "targets" / "condor" / "one.tar.gz").write_bytes(CONTENT)
    (made / "empty").touch()
    (made / ".hidden").write_text("secret")
    (tmp_path / "outside").write_text("secret")
    (made / "out").symlink_to(tmp_path / "outside")
    (made / "newest.tar.gz").symlink_to("targets/condor/one.tar.gz")
    os.mkfifo(made / "pipe")
    return made


@pytest.fixture
def running(factory: Factory, store: Store, published: Path) -> Live:
    return live(replace(factory, artifacts=str(published)), store)


@pytest.fixture
def client(running: Live) -> Client:
    return Client(application(running))


FILE = "/artifacts/targets/condor/one.tar.gz"


@pytest.mark.parametrize("cached", [True, False], ids=["from the kernel's memory", "from the disk"])
def test_a_file_comes_byte_for_byte(client: Client, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    def absent(*_: object) -> int:
        raise BlockingIOError(11, "not there yet")

    if not cached:
        monkeypatch.setattr("os.preadv", absent)
    answer = client.get(FILE)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/gzip"
    assert client.get("/artifacts/newest.tar.gz").content == CONTENT
    assert (client.get("/artifacts/empty").status_code, client.get("/artifacts/empty").content) == (200, b"")


def test_head_tells_of_the_file_and_sends_none_of_it(client: Client) -> None:
    answer = client.ask("HEAD", FILE)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(len(CONTENT)), b"")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-300000", 1000, 300001),
        ("bytes=511999-", 511999, 512000),
        ("bytes=-10", 511990, 512000),
        ("bytes=5-99999999", 5, 512000),
        ("bytes=-99999999", 0, 512000),
    ],
)
def test_a_part_is_sent_where_one_is_asked_for(client: Client, asked: str, start: int, end: int) -> None:
    answer = client.get(FILE, {"range": asked})
    whole = (start, end) == (0, len(CONTENT))
    assert (answer.status_code, answer.content) == (200 if whole else 206, CONTENT[start:end])
    assert whole or answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=-", "bytes=x-"])
def test_what_is_no_single_range_gets_the_whole(client: Client, asked: str) -> None:
    assert client.get(FILE, {"range": asked}).status_code == 200


@pytest.mark.parametrize("asked", ["bytes=512000-", "bytes=9999999-99999999", "bytes=-0"])
def test_a_range_that_is_not_there_is_said_to_be_none(client: Client, asked: str) -> None:
    answer = client.get(FILE, {"range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */512000")


def test_what_a_client_has_is_not_sent_again(client: Client, published: Path) -> None:
    first = client.get(FILE).headers
    assert client.get(FILE, {"if-none-match": f'"other", W/{first["etag"]}'}).status_code == 304
    assert client.get(FILE, {"if-modified-since": first["last-modified"]}).status_code == 304
    part = {"range": "bytes=0-9", "if-range": first["etag"]}
    assert client.get(FILE, part).status_code == 206
    (published / "targets" / "condor" / "one.tar.gz").write_bytes(b"newer content")
    assert client.get(FILE, {"if-none-match": first["etag"]}).content == b"newer content"
    assert client.get(FILE, part).content == b"newer content"


@pytest.mark.parametrize("value", ["", "yesterday", "Thu, 01 Jan 1970 99:00:00 GMT", "\x7f"])
def test_a_date_that_is_none_is_no_condition(client: Client, value: str) -> None:
    assert client.get(FILE, {"if-modified-since": value}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "", "targets", "targets/condor", "targets/condor/", ".hidden", "out", "pipe", "../outside", "%2e%2e/outside",
        "..%2foutside", "targets/../../outside", "targets//condor/one.tar.gz", "/etc/passwd", "%2fetc%2fpasswd",
        "targets/condor/one.tar.gz/", "empty%00", "a" * 5000,
    ],
)  # fmt: skip
def test_nothing_is_given_but_files_that_are_published(client: Client, name: str) -> None:
    answer = client.get(f"/artifacts/{name}")
    assert answer.status_code == 404
    assert b"secret" not in answer.content


def test_files_are_only_read_and_a_factory_without_any_has_none(client: Client, running: Live) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert client.ask(method, FILE).status_code == 405
    running.factory = replace(running.factory, artifacts=None)
    assert client.get(FILE).status_code == 404


@pytest.mark.parametrize(
    ("name", "for_good"),
    [
        ("metadata/timestamp.json", False),
        ("metadata/3.root.json", True),
        ("metadata/12.snapshot.json", True),
        ("pilot/metadata/1.atlas.json", True),
        (f"targets/condor/{HEXADECIMAL}.one.tar.gz", True),
        (f"tarballs/condor-{HEXADECIMAL}.tar.gz", True),
        ("tarballs/index.json", False),
        ("images/3.images.json", False),
        (f"targets/{HEXADECIMAL[1:]}.one", False),
    ],
)
def test_caches_keep_for_good_what_never_changes_and_ask_for_all_else(
    client: Client, published: Path, name: str, for_good: bool
) -> None:
    path = published / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    kept = client.get(f"/artifacts/{name}").headers["cache-control"]
    assert kept == (artifacts.FOR_GOOD if for_good else artifacts.FOR_A_MINUTE)


@pytest.fixture
def address(running: Live) -> Iterator[str]:
    """The real server."""
    door = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application(running), loop="asyncio", http=ImpatientProtocol, log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([door],))
    thread.start()
    yield f"http://127.0.0.1:{door.getsockname()[1]}/artifacts"
    server.should_exit = True
    thread.join()
    door.close()


def test_a_pilot_takes_signed_configuration_from_the_factory(
    running: Live, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path, capsys)
    operator.do("init")
    operator.do("add", "config", operator.file("base.yaml", "startd: {idle_shutdown_seconds: 77}"))
    operator.publish()
    operator.do("bundle", tmp_path / "trust.json")
    settings = {"mirrors": [address], "bundle": str(tmp_path / "trust.json"), "config": ["config/base.yaml"]}
    given = operator.file("settings.json", json.dumps({"artifacts": settings}))

    def shown() -> subprocess.CompletedProcess[str]:
        command = (
            f"import sys; sys.path[:0] = {sys.path!r}; from pilot_agent.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        words = [sys.executable, "-c", command, "config", "show", "--json", "--config", f"factory={given}"]
        return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)

    done = shown()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["startd.idle_shutdown_seconds"]["value"] == 77
    (served,) = (Path(running.factory.artifacts or "") / "targets" / "config").glob("*.base.yaml")
    served.write_text("startd: {idle_shutdown_seconds: 78}")
    assert shown().returncode == 68


def test_many_parts_at_a_time_are_each_what_was_asked_for(address: str) -> None:
    with httpx.Client(timeout=60) as client:
        for start in range(0, len(CONTENT), 100_001):
            answer = client.get(f"{address}/newest.tar.gz", headers={"range": f"bytes={start}-{start + 100_000}"})
            assert answer.content == CONTENT[start : start + 100_001]
