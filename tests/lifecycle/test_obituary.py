"""A failed pilot's hold ends when it is told to, and whoever is told of the failure meanwhile never delays it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.events import EventLog
from pilot_agent.lifecycle.obituary import Obituary, hold
from pilot_agent.workspace import Workspace

PROBLEM = {"kind": "internal", "code": "x", "message": "y", "stage": "run", "hint": ""}
pytestmark = pytest.mark.usefixtures("each_kernel")
LONG_SECONDS = 3600.0


class OneShotAlarm:
    """An alarm that rings when somebody writes to it; ``requests`` are SIGUSR1 when it rings for a drain."""

    def __init__(self, *, drain: bool = False) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.drain = drain
        self.rung = False
        self.told: list[dict[str, Any]] = []

    def fileno(self) -> int:
        return self.reader

    def _look(self) -> bool:
        try:
            self.rung = self.rung or bool(os.read(self.reader, 1))
        except BlockingIOError:
            return self.rung
        return self.rung

    def reason(self) -> int | None:
        return signal.SIGTERM if self._look() and not self.drain else None

    def requests(self) -> set[int]:
        return {signal.SIGUSR1} if self._look() and self.drain else set()

    def tell(self, message: dict[str, Any]) -> None:
        self.told.append(message)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path / "pilot-1"))
    os.makedirs(made.obituary)
    return made


def told_by(workspace: Workspace, script: str) -> Obituary:
    """An obituary whose ``condor_advertise`` is a shell script; ``$1`` is the command, ``$2`` the ad."""
    plan = {"argv": ["/bin/sh", "-c", script, "tool"], "environment": {"PATH": os.environ["PATH"]}}
    plan |= {"name": "pilot-1", "host": "wn1", "attributes": {}}
    Path(workspace.obituary, "plan.json").write_text(json.dumps(plan))
    return obituary(workspace)


def obituary(workspace: Workspace) -> Obituary:
    events = EventLog(workspace.events, time.time())
    return Obituary(workspace, None, events, PROBLEM, exit_code=70, seconds=LONG_SECONDS)


def events(workspace: Workspace) -> list[str]:
    path = Path(workspace.events)
    return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []


def hold_until(condition: Callable[[], bool], told: Obituary, *, drain: bool = False) -> None:
    """Hold, and ring the alarm when the condition comes true."""
    alarm = OneShotAlarm(drain=drain)

    def ring() -> None:
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        os.write(alarm.writer, b"x")

    thread = threading.Thread(target=ring)
    thread.start()
    try:
        hold(alarm, LONG_SECONDS, told)  # type: ignore[arg-type]
    finally:
        thread.join()
        alarm.close()


@pytest.mark.parametrize("drain", [False, True])
def test_the_ad_is_sent_at_once_and_taken_back_when_the_hold_ends(workspace: Workspace, drain: bool) -> None:
    said = Path(workspace.root, "said")
    told = told_by(workspace, f'echo "$1" >> {said}; cat "$2" >> {said}')
    hold_until(lambda: "obituary.sent" in events(workspace), told, drain=drain)
    assert events(workspace) == ["obituary.sent", "obituary.withdrawn"]
    assert 'PilotFailureCode = "x"' in said.read_text()
    assert [line for line in said.read_text().splitlines() if line.endswith(("_AD", "_ADS"))] == [
        "UPDATE_STARTD_AD",
        "INVALIDATE_STARTD_ADS",
    ]


def test_a_tool_that_fails_is_an_event_with_what_it_said(workspace: Workspace) -> None:
    told = told_by(workspace, "echo no collector; exit 1")
    hold_until(lambda: bool(events(workspace)), told)
    assert events(workspace) == ["obituary.not_sent"]
    assert "no collector" in Path(workspace.events).read_text()


def test_a_tool_that_hangs_is_killed_when_the_hold_ends(workspace: Workspace) -> None:
    begun = Path(workspace.root, "begun")
    told = told_by(workspace, f"trap '' TERM; touch {begun}; while :; do sleep 0.1; done")
    hold_until(begun.exists, told)
    assert events(workspace) == []
    reap()


def test_a_tool_that_is_not_there_is_an_event(workspace: Workspace) -> None:
    told_by(workspace, "")
    plan = Path(workspace.obituary, "plan.json")
    plan.write_text(plan.read_text().replace("/bin/sh", "/no/such/tool"))
    hold_until(lambda: bool(events(workspace)), obituary(workspace))
    assert "/no/such/tool" in Path(workspace.events).read_text()


@pytest.mark.parametrize("plan", [None, "", "{", "[]", '{"argv": 1}'])
def test_without_a_whole_plan_the_slot_is_held_all_the_same(workspace: Workspace, plan: str | None) -> None:
    if plan is not None:
        Path(workspace.obituary, "plan.json").write_text(plan)
    held = threading.Event()
    hold_until(lambda: held.set() or True, obituary(workspace))  # type: ignore[func-returns-value]
    assert held.is_set()
    assert events(workspace) == []


def test_a_drain_of_a_pilot_without_a_keeper_ends_the_hold(workspace: Workspace) -> None:
    Path(workspace.drain).touch()
    alarm = OneShotAlarm()
    hold(alarm, LONG_SECONDS, obituary(workspace))  # type: ignore[arg-type]
    assert not alarm.rung
    alarm.close()


def test_the_guardian_learns_when_the_hold_ends(workspace: Workspace) -> None:
    Path(workspace.drain).touch()
    alarm = OneShotAlarm()
    began = time.time()
    hold(alarm, LONG_SECONDS, obituary(workspace))  # type: ignore[arg-type]
    [message] = alarm.told
    assert began + LONG_SECONDS - 1 <= message["told"]["deadline"] <= time.time() + LONG_SECONDS + 1
    alarm.close()


def reap() -> None:
    """What was killed without being waited for."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
