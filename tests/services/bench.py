"""Services as the pipeline's stage and as the keeper runs them, with real programs in a workspace of their own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pilot_agent.events import EventLog
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.identity import still_same
from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.lifecycle.processes import descendants, kill_descendants, running
from pilot_agent.services.plan import ServicePlan
from pilot_agent.services.stage import StageLoop, start_all
from pilot_agent.services.supervisor import Supervisor
from pilot_agent.workspace import Workspace

PATIENCE_SECONDS = 60.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
SERVER = """
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = not os.path.exists("ill") and self.path in ("/health", "/metrics")
        self.send_response(200 if good else 503)
        self.end_headers()
        self.wfile.write(b"requests_total{code=\\"200\\"} 3\\nrequests_total{code=\\"500\\"} 2\\n")
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
"""An HTTP server on the port of its first argument; while its directory has a file ``ill`` it answers 503."""


class Bench:
    """Services of a test, and what was heard of them."""

    def __init__(self, directory: Path) -> None:
        (directory / "pilot").mkdir()
        self.workspace = Workspace(str(directory / "pilot"))
        self.workspace.create()
        self.events = EventLog(self.workspace.events, time.time())
        self.journal = Journal(self.workspace.journal)
        self.changes: list[tuple[str, str]] = []
        self.lost: list[str] = []
        self.server = directory / "server.py"
        self.server.write_text(SERVER)

    def plan(self, script: str = "", *, name: str = "s", **fields: Any) -> ServicePlan:
        """A service that is this shell script, ready when a file ``ready`` appears, unless told otherwise."""
        directory = os.path.join(self.workspace.services, name)
        usual = {"ready_way": "file", "ready_of": "ready", "ready_seconds": PATIENCE_SECONDS, "backoff_seconds": 0.01}
        argv = fields.pop("argv", ("/bin/sh", "-c", script))
        environment = {**ENVIRONMENT, **fields.pop("environment", {})}
        return ServicePlan(name=name, argv=argv, directory=directory, environment=environment, **{**usual, **fields})

    def http(self, *, name: str = "s", **fields: Any) -> ServicePlan:
        """A service that answers HTTP on a free port."""
        argv = ("python3", str(self.server), "{port:http}")
        usual = {"argv": argv, "ports": {"http": 0}, "ready_way": "http", "ready_of": "http/health"}
        return self.plan(name=name, **{**usual, **fields})

    def file(self, path: str, name: str = "s") -> Path:
        return Path(self.workspace.services) / name / path

    def stage(self, *plans: ServicePlan, wake: Any = None) -> None:
        """All of the service stage."""
        start_all(plans, self.events, self.journal, wake)

    def told(self, event: str) -> list[dict[str, Any]]:
        lines = Path(self.workspace.events).read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["event"] == f"service.{event}"]

    def end(self) -> None:
        kill_descendants(Budget(PATIENCE_SECONDS))
        for entry in read_journal(self.workspace.journal).processes:
            # Its number may be another's by now.
            if entry.identity is not None and still_same(entry.identity):
                with suppress(ProcessLookupError):
                    os.killpg(entry.identity.pid, signal.SIGKILL)


class Kept:
    """The supervisor with liveness and looks, as in the keeper."""

    def __init__(self, bench: Bench, *plans: ServicePlan) -> None:
        self._bench = bench
        self.loop = StageLoop(None)
        self.supervisor = Supervisor(
            plans, self.loop, bench.events, bench.journal, changed=self._changed, gave_up=self._lost
        )
        self.supervisor.begin()

    def until(self, come: Callable[[], bool], what: str) -> None:
        """Turn the loop until then; fails with ``what`` did not come."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not come():
            assert time.monotonic() < end, f"{what} did not come: {self.supervisor.states()}"
            self.loop.call_later(0.05, lambda: None)
            self.loop.turn()

    def until_status(self, status: str, name: str = "s") -> None:
        self.until(lambda: self.supervisor.statuses()[name] == status, f"{name} {status}")

    def until_start(self, number: int, name: str = "s") -> None:
        standing = self.supervisor.units[name].standing
        self.until(lambda: standing.starts >= number and standing.status == "ready", f"start {number} of {name}")

    def pid(self, name: str = "s") -> int:
        return self.supervisor.units[name].standing.pid

    def stop(self) -> None:
        self.supervisor.stop(Budget(PATIENCE_SECONDS))

    def close(self) -> None:
        self.loop.close()

    def _changed(self, name: str, status: str, ports: dict[str, int], attributes: dict[str, Any]) -> None:
        self._bench.changes.append((name, status))

    def _lost(self, name: str, message: str, required: bool) -> None:
        self._bench.lost.append(f"{name} {message}")


Keep = Callable[..., Kept]
"""Supervises services as the keeper does."""


def left_alone(*pids: int) -> bool:
    """Whether at last only these processes run below this one: what was killed needs a moment to be gone."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = running(descendants(os.getpid()))
        if set(found) == set(pids):
            return True
        time.sleep(0.02)
    return False
