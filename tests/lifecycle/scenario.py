"""Pilots for the tests of the end of life: real processes all the way, and a search for what they leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilot_agent.output.printed import find_printed

PAYLOAD = Path(__file__).with_name("payload.py")
MAIN = Path(__file__).parents[2] / "pilot_agent" / "__main__.py"
MARKER = "PILOT_AGENT_TEST_MARKER"
PATIENCE_SECONDS = 60.0

OBEDIENT_MASTER = 'trap "exit 0" TERM QUIT; while :; do sleep 0.1; done'
DEAF_MASTER = 'trap "" TERM; while :; do sleep 0.1; done'
WITH_ESCAPED_JOBS = "setsid sleep 600 & (setsid sh -c 'sleep 600 & sleep 600' & ) ; " + OBEDIENT_MASTER
"""Leaves a process in a session of its own and a double fork with a child."""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition``; fails when it does not come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (began := time.monotonic()) < end:
        value = condition()
        if value:
            return value
        # To look at every process of the machine is work: who waits leaves the processor to what it waits for.
        time.sleep(max(0.01, time.monotonic() - began))
    raise AssertionError(f"did not happen: {what}")


class Pilot:
    """One pilot in ``directory``: its scenario, its guardian, and what can be asked of it from outside."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.workspace = directory / "pilot-test"
        self.output = directory / "output"
        self.marker = uuid.uuid4().hex
        self.scenario: dict[str, Any] = {"workspace": str(self.workspace), "output": str(self.output)}
        self.extra_environment: dict[str, str] = {}
        self.guardian: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        interpreter = json.dumps([sys.executable, "-I", "-B"])
        variables = {"PATH": os.environ["PATH"], MARKER: self.marker, "PILOT_AGENT_INTERPRETER": interpreter}
        return {**variables, "PILOT_AGENT_PAYLOAD": str(PAYLOAD), **self.extra_environment}

    def plan(self, script: str = OBEDIENT_MASTER, **changes: Any) -> None:
        """Hand over to a keeper whose condor_master is a shell with this script."""
        self.scenario["plan"] = {
            "output": str(self.output),
            "pilot_id": "test",
            "started": time.time(),
            "master": {
                "argv": ["/bin/sh", "-c", script],
                "environment": self.environment,
                "directory": str(self.workspace / "condor"),
                "log": str(self.workspace / "condor" / "log" / "MasterLog"),
            },
            "join": None,
            "channel": {"path": str(self.workspace / "private" / "ads.fifo"), "period_seconds": 1, "attributes": {}},
            "time": {"deadline": None, "budget_seconds": 12, "vacate_seconds": 0.5},
            **changes,
        }

    def upload_to(self, port: int) -> None:
        """Leave the plan for uploads in the workspace: whoever ends the pilot sends its report to this port."""
        directory = self.workspace / "private" / "upload"
        directory.mkdir(mode=0o700)
        plan = {
            "url": f"http://127.0.0.1:{port}/p",
            "period_seconds": 60,
            "heartbeat_seconds": 300,
            "pilot_id": "test",
            "version": "1",
            "argv": [sys.executable, "-I", "-B", str(MAIN), "_upload", str(self.workspace)],
            "environment": self.environment,
        }
        (directory / "plan.json").write_text(json.dumps(plan))

    def start(self, **options: Any) -> None:
        """Start the guardian, as a batch system would."""
        path = self.directory / "scenario.json"
        path.write_text(json.dumps(self.scenario))
        command = [sys.executable, "-I", "-B", str(PAYLOAD), "run", str(path)]
        with open(self.directory / "stdout", "wb") as stdout, open(self.directory / "stderr", "wb") as stderr:
            streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr, **options}
            self.guardian = subprocess.Popen(command, env=self.environment, start_new_session=True, **streams)

    def running(self) -> None:
        """Wait until condor_master (the stand-in) runs."""
        wait_until(lambda: "condor.started" in self.event_names(), "the keeper started condor_master")
        wait_until(lambda: len(self.processes()) >= 4, "the processes of the pilot are there")

    def staying(self) -> None:
        """Wait until the pipeline has made its workspace."""
        wait_until((self.workspace / "tmp" / "pids").exists, "the pipeline made its workspace")

    @property
    def main_pid(self) -> int:
        """The process that is the pipeline and becomes the keeper."""
        pids: dict[str, int] = json.loads((self.workspace / "tmp" / "pids").read_text())
        return pids["pipeline"]

    def send(self, number: signal.Signals) -> None:
        """A signal to the guardian."""
        assert self.guardian is not None
        self.guardian.send_signal(number)

    def wait(self) -> int:
        """The guardian's exit code."""
        assert self.guardian is not None
        return self.guardian.wait(PATIENCE_SECONDS)

    def processes(self) -> list[int]:
        """Every process that carries this pilot's marker in its environment, zombies excepted."""
        found = []
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and self.marker.encode() in Path("/proc", name, "environ").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
        return found

    def events(self) -> list[dict[str, Any]]:
        """The events so far, from the workspace or, at the end, from the output directory."""
        for path in (self.workspace / "events.jsonl", self.output / "events.jsonl"):
            if path.exists():
                return [json.loads(line) for line in path.read_text().splitlines()]
        return []

    def event_names(self) -> list[str]:
        """The names of the events so far."""
        return [event["event"] for event in self.events()]

    def report(self) -> Any:
        """The published report."""
        return json.loads((self.output / "report.json").read_text())

    def printed(self) -> Any:
        """The last report that is whole on standard output."""
        found = find_printed((self.directory / "stdout").read_text(errors="replace"))
        return [one.report for one in found if not one.problem][-1]

    def nothing_left(self) -> bool:
        """True once no process and no file of the pilot is left; fails when some stay."""
        wait_until(lambda: not self.processes(), "every process of the pilot is gone")
        wait_until(lambda: not self.workspace.exists(), "the workspace is gone")
        return True

    def destroy(self) -> None:
        """End what a failed test left."""
        while self.processes():
            for pid in self.processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)
        if self.guardian is not None:
            self.guardian.wait()
        shutil.rmtree(self.workspace, ignore_errors=True)
