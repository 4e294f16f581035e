"""Strangers at the door: whatever is sent to any address is answered as the factory says, and nothing is lost."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from server_stub.entries import Factory
from server_stub.factory.application import application
from server_stub.factory.frontend_api import Door
from server_stub.factory.frontends import Frontend
from server_stub.factory.limits import Rate
from server_stub.factory.live import Live, live
from server_stub.factory.patience import ImpatientProtocol
from server_stub.factory.pilots import PilotState
from server_stub.factory.store import Store
from tests.server_stub.factory.keys import Signer
from tests.server_stub.factory.test_store import pilot

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
SIGNER = Signer()
KEY = SIGNER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PAGES = ("/entries", "/pilots", "/failures", "/benchmarks", "/waste")


@pytest.fixture
def running(factory: Factory, store: Store) -> Live:
    asking = (Frontend("fe", SIGNER.public, ("cms",)),)
    made = live(replace(factory, uploads=True, url="https://factory", frontends=asking), store)
    free = Rate(at_once=10**9, per_second=10**9)
    made.receiver = replace(made.receiver, rate=free, failures=free)
    store.save(replace(pilot(), state=PilotState.RUNNING), report={"schema": "x"})
    return made


def test_every_operation_answers_anything_as_it_is_described(running: Live, port: int) -> None:
    command = [sys.executable, "-m", "tests.server_stub.factory.attack", f"http://127.0.0.1:{port}"]
    done = subprocess.run([*command, running.tokens.issue("p1"), KEY], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {" ".join(line.split()[:2]): line.split()[2:] for line in done.stdout.splitlines()}
    assert {"POST /pilots/{pilot_id}/report", "GET /api/v1/pilots", "GET /health/ready"} <= {*asked}
    assert {"200", "400", "409"} & {*asked["PUT /api/v1/frontend/requests"]}, "what a frontend sends was looked at"
    assert {"200", "401"} <= {*asked["GET /api/v1/frontend/offers"]}
    assert running.store.report("p1") == {"schema": "x"}


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as opened:
        yield opened


@pytest.mark.parametrize(
    "value", ["' OR 1=1 --", "x'; DROP TABLE pilots; --", "%", "_", "\\", "p1' UNION SELECT sha256 FROM pilots --"]
)
def test_filters_are_compared_with_and_are_no_statement(client: httpx.Client, running: Live, value: str) -> None:
    for name in ("entry", "site", "state", "outcome", "kind", "code", "host", "vo"):
        assert client.get("/api/v1/pilots", params={name: value}).json()["pilots"] == []
        assert client.get("/pilots", params={name: value}).status_code == 200
    assert client.get("/api/v1/pilots", params={"after": value}).status_code == 200
    assert client.get("/api/v1/benchmarks", params={"benchmark": value}).json() == []
    assert [one.id for one in running.store.pilots()] == ["p1"]


@pytest.mark.parametrize("name", ["..%2f..%2ffactory.sqlite", "%2e%2e", "token.key", "style.css%00", "/etc/passwd"])
def test_no_path_leads_out_of_what_is_published(client: httpx.Client, running: Live, name: str) -> None:
    for place in ("payload", "static", "pilots", "api/v1/pilots"):
        answer = client.get(f"/{place}/{name}")
        assert answer.status_code in {307, 404, 422}, (place, name)
        assert b"SQLite" not in answer.content


def test_no_text_of_a_node_becomes_markup_anywhere(client: httpx.Client, running: Live) -> None:
    step = {"stage": SCRIPT, "what": SCRIPT, "status": SCRIPT, "start": 0, "seconds": 1}
    score = {"name": SCRIPT, "score": 3, "unit": SCRIPT}
    report = {"timeline": [step], "benchmarks": [score], "node": {"cpu": {"model": {"value": SCRIPT}}}}
    hostile = replace(
        pilot("p9", entry="site-a"), state=PilotState.ENDED, ended=time.time(), host=SCRIPT, outcome="failed",
        vo=SCRIPT, site=SCRIPT, failure_kind="network", failure_code=SCRIPT, message=SCRIPT, report=True,
    )  # fmt: skip
    running.store.save(hostile, report=report)
    running.store.add_last_words("p9", SCRIPT)
    running.store.close_entry("site-a", SCRIPT)
    for path in (*PAGES, "/pilots/p9", f"/pilots?host={SCRIPT}"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text
        assert "<img" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "&lt;script&gt;" in client.get("/pilots/p9").text
    assert client.get("/pilots/p9/report").headers["content-type"] == "application/json"
    assert client.get("/pilots/p9/report").headers["x-content-type-options"] == "nosniff"


class VeryImpatient(ImpatientProtocol):
    head_seconds = 2.0


@pytest.fixture
def port(running: Live) -> Iterator[int]:
    """The real server, on a free port."""
    door = socket.create_server(("127.0.0.1", 0))
    # uvloop, where it is installed, keeps a pipe for as long as the process lives.
    options: dict[str, Any] = {"loop": "asyncio", "http": VeryImpatient, "log_level": "critical", "lifespan": "off"}
    free = Rate(at_once=10**9, per_second=10**9)
    app = application(running, Door(running, rate=free, failures=free))
    server = uvicorn.Server(uvicorn.Config(app, **options))
    thread = threading.Thread(target=server.run, args=([door],))
    thread.start()
    yield door.getsockname()[1]
    server.should_exit = True
    thread.join()
    door.close()


@pytest.mark.parametrize("begun", [b"", b"GET /health/live HTTP/1.1\r\nX-Slow: "])
def test_who_does_not_get_on_with_a_request_is_cut_off_and_others_are_served(port: int, begun: bytes) -> None:
    slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(20)]
    for one in slow:
        one.sendall(begun)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as good:
        good.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert good.makefile("rb").read().startswith(b"HTTP/1.1 200")
    for one in slow:
        with one:
            assert ended(one)


def ended(connection: socket.socket) -> bool:
    """The other side ends the connection without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
