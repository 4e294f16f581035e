"""The real server, killed while pilots send to it: whatever it answered it had taken is there when it starts again."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle.final_report import empty_report
from server_stub.entries import read_factory
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.factory.tokens import Tokens, load_key

PILOTS = 12
START_SECONDS = 120.0
EVENTS = b'{"event": "a"}\n'


@dataclass
class Sender:
    """A pilot that sends events and reports as fast as it may, and remembers what was taken."""

    name: str
    token: str
    port: int
    events: int = 0
    reports: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def send(self) -> None:
        """Until the server is gone."""
        headers = {"Authorization": f"Bearer {self.token}"}
        report: dict[str, Any] = empty_report(self.name, 1.7e9)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            for number in range(1, 60):
                place = {"X-Pilot-Offset": str(number)}
                if self._posted(connection, "events", EVENTS, headers | place):
                    self.events = number
                report["jobs"]["started"] = number
                if self._posted(connection, "report", json.dumps(report).encode(), headers):
                    self.reports.append(number)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def _posted(self, connection: http.client.HTTPConnection, what: str, body: bytes, headers: dict[str, str]) -> bool:
        connection.request("POST", f"/pilots/{self.name}/{what}", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status not in (204, 429):  # too many in a while is an answer of its own
            self.refused.append(answer.status)
        return answer.status == 204


@contextmanager
def serving(path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The factory's own command, once it answers."""
    command = [sys.executable, "-m", "server_stub", "serve", "--config", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            until = time.monotonic() + START_SECONDS
            while not answers(port):
                assert server.poll() is None, server.stderr.read() if server.stderr else ""
                assert time.monotonic() < until
                time.sleep(0.05)
            yield server
        finally:
            if server.poll() is None:
                server.kill()


def answers(port: int) -> bool:
    """The server takes connections and is alive."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.fixture
def configured(document: dict[str, Any], tmp_path: Path) -> Path:
    """A factory's file, with HTTPS in front as a proxy would give it, and a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        document |= {"uploads": True, "url": "https://factory.example.org", "port": door.getsockname()[1]}
    path = tmp_path / "factory.json"
    path.write_text(json.dumps(document))
    (tmp_path / "state" / "pilots").mkdir(parents=True)
    return path


def senders(path: Path) -> list[Sender]:
    factory = read_factory(str(path))
    with Store(factory.database) as store:
        tokens = Tokens(factory.name, load_key(factory.state), store)
        names = [f"p{number}" for number in range(PILOTS)]
        for name in names:
            directory = factory.pilot_directory(name)
            store.save(Pilot(name, "site-a", "S", "pyz", "0", PilotState.RUNNING, 1.0, directory))
        return [Sender(name, tokens.issue(name, seconds=3600), factory.port) for name in names]


def test_whatever_the_server_said_it_took_is_there_after_it_was_killed(configured: Path) -> None:
    factory = read_factory(str(configured))
    pilots = senders(configured)
    with serving(configured, factory.port) as server:
        threads = [threading.Thread(target=one.send) for one in pilots]
        for thread in threads:
            thread.start()
        while sum(len(one.reports) for one in pilots) < 3 * PILOTS:
            assert any(thread.is_alive() for thread in threads)
            time.sleep(0.01)
        server.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
    assert sum(len(one.reports) for one in pilots) < 60 * PILOTS, "it was killed in the middle"
    with Store(factory.database) as store:
        for one in pilots:
            assert len(b"".join(store.events(one.name))) >= one.events * len(EVENTS)
            if one.reports:
                assert (store.report(one.name) or {})["jobs"]["started"] >= one.reports[-1]


def test_under_load_a_reload_loses_no_request_and_an_end_answers_those_that_run(configured: Path) -> None:
    factory = read_factory(str(configured))
    pilots = senders(configured)
    with serving(configured, factory.port) as server:
        assert server.stderr is not None
        threads = [threading.Thread(target=one.send) for one in pilots]
        for thread in threads:
            thread.start()
        for part in range(1, 4):
            while sum(len(one.reports) for one in pilots) < part * PILOTS:
                assert any(thread.is_alive() for thread in threads)
                time.sleep(0.01)
            server.send_signal(signal.SIGHUP)
            wait_for(server.stderr, "reloaded")
        assert [one.refused for one in pilots] == [[]] * PILOTS
        server.send_signal(signal.SIGTERM)
        wait_for(server.stderr, "stopped")
        assert server.wait() == 0
        for thread in threads:
            thread.join()
    assert [one.refused for one in pilots] == [[]] * PILOTS, "whoever was connected got an answer or nothing"
    with Store(factory.database) as store:
        for one in pilots:
            assert len(b"".join(store.events(one.name))) >= one.events * len(EVENTS)
            assert (store.report(one.name) or {})["jobs"]["started"] >= one.reports[-1]


def test_a_signal_reloads_the_file_and_a_wrong_one_changes_nothing(configured: Path) -> None:
    document = json.loads(configured.read_text()) | {"collect_seconds": 900}
    configured.write_text(json.dumps(document))
    port = document["port"]
    with serving(configured, port) as server:
        assert server.stderr is not None
        configured.write_text("{")
        server.send_signal(signal.SIGHUP)
        wait_for(server.stderr, "config.syntax")
        document["entries"][1]["name"] = "renamed"
        configured.write_text(json.dumps(document))
        server.send_signal(signal.SIGHUP)
        wait_for(server.stderr, "reloaded")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/api/v1/entries")
        assert {one["name"] for one in json.loads(connection.getresponse().read())} == {"site-a", "renamed"}
        connection.close()
        server.send_signal(signal.SIGTERM)
        wait_for(server.stderr, "stopped")
        assert server.wait() in {0, -signal.SIGTERM, 128 + signal.SIGTERM}


def wait_for(log: Any, event: str) -> None:
    """Read the log up to this event; without end it would be none."""
    for line in log:
        if json.loads(line).get("event") == event:
            return
    pytest.fail(f"the server never said {event}")
