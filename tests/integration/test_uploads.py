"""A pilot's events and report reach its factory while it lives, and a factory that is dead changes nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import SITE_POOL, Grid
from tests.testbed.user_jobs import slot_ads

PORT = 18080
KEPT = "/tmp/uploads"
SERVER = f"""
import http.server, json

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("{KEPT}", "a") as file:
            file.write(json.dumps([self.path, self.headers["X-Pilot-Id"], body]) + chr(10))
        self.send_response(204)
        self.end_headers()

http.server.HTTPServer(("", {PORT}), Handler).serve_forever()
"""
PLAIN = {"site": {"containers": "never"}, "images": {}}
NOBODY = "http://10.77.0.99:8080/up"


@pytest.fixture(scope="module")
def address(grid: Grid) -> Iterator[str]:
    """Where a small factory takes uploads."""
    door = grid.factory.popen(["python3", "-I", "-c", SERVER])
    listening = ["python3", "-I", "-c", f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 1)"]
    try:
        while grid.factory.run(listening).returncode != 0:
            assert door.poll() is None
        yield f"http://{SITE_POOL.head}:{PORT}/up"
    finally:
        door.kill()
        door.wait()
        grid.factory.path(KEPT).unlink(missing_ok=True)


def posts(grid: Grid, pilot_id: str) -> dict[str, list[str]]:
    """What this pilot uploaded, by path."""
    path = grid.factory.path(KEPT)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found: dict[str, list[str]] = {"/up/events": [], "/up/report": []}
    for where, who, body in map(json.loads, lines):
        if who == pilot_id:
            found.setdefault(where, []).append(body)
    return found


def names(events: list[str]) -> list[Any]:
    return [json.loads(line)["event"] for body in events for line in body.splitlines()]


def test_events_come_while_the_pilot_runs_and_the_report_at_its_end(
    grid: Grid, pilot: StartPilot, address: str
) -> None:
    run = pilot(PLAIN | {"upload": {"url": address, "period_seconds": 1}}).start().joined()
    pilot_id = run.wait_for("pilot.started")["id"]
    run.wait_until(
        "event of the hand-off there", lambda: "condor.started" in names(posts(grid, pilot_id)["/up/events"])
    )
    run.signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.story()
    sent = posts(grid, pilot_id)
    assert names(sent["/up/events"]) == [event["event"] for event in run.events()]
    (report,) = sent["/up/report"]
    assert json.loads(report) == run.report()
    assert "/up/last-words" not in sent
    run.nothing_left()


def test_a_pilot_that_refuses_its_node_tells_its_factory_before_it_holds_the_slot(
    grid: Grid, pilot: StartPilot, address: str
) -> None:
    held = {"requirements": ["cpu.usable >= 1000"], "on_failure": {"hold_seconds": 3600}, "upload": {"url": address}}
    run = pilot(PLAIN | held).start()
    pilot_id = run.wait_for("pilot.started")["id"]
    (report,) = run.wait_until("report there", lambda: posts(grid, pilot_id)["/up/report"])
    assert run.running
    assert json.loads(report)["outcome"]["failure"]["kind"] == "node_resource"
    run.signal(signal.SIGTERM)
    assert run.wait() == 64, run.story()


def test_a_factory_that_is_dead_is_an_event_and_nothing_more(grid: Grid, pilot: StartPilot) -> None:
    run = pilot(PLAIN | {"upload": {"url": NOBODY, "period_seconds": 1}}).start()
    run.wait_until("slot", lambda: slot_ads(grid, run))
    run.wait_for("upload.failed")
    run.signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.story()
    assert run.report()["leftovers"] == []
    run.nothing_left()


def test_a_token_is_never_sent_unprotected(pilot: StartPilot, address: str) -> None:
    run = pilot(PLAIN | {"upload": {"url": address, "token": "{start}/pool.token"}})
    assert run.run() == 66, run.story()
    assert run.failure()["code"] == "upload.insecure"
